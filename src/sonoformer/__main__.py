"""`python -m sonoformer`: the command line, where no script is on the path, as under torchrun."""

from __future__ import annotations

from sonoformer.cli.main import main

if __name__ == "__main__":
    main()
