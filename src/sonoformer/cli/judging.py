"""What `sonoformer probe` and `sonoformer suite` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonoformer.cli.options import progress_bar, say
from sonoformer.run import Run
from sonoformer.suite import SuiteConfig, run_suite

Data = Annotated[
    Path | None,
    Parameter(help="Folder with sets of your own: NAME.csv or NAME/manifest.csv."),
]
Cache = Annotated[
    Path | None, Parameter(help="Folder of decoded sound and features; --out/cache if absent.")
]
Options = Annotated[SuiteConfig, Parameter(name="*")]


def judge(
    verb: str,
    checkpoints: Sequence[Path],
    out: Path,
    config: SuiteConfig,
    *,
    data: Path | None,
    cache: Path | None,
    seed: int,
    device: str,
    overwrite: bool,
) -> None:
    """Run the suite in `out`, or go on there; say where the table is."""
    again = Run.exists(out) and not overwrite
    changeable = frozenset({"seed", *SuiteConfig.__dataclass_fields__, *_NESTED})
    with Run.start(
        out, verb, config, seed, resume=again, overwrite=overwrite, may_change=changeable
    ) as run:
        run.forget_problems()  # of a run before this one; clips are looked at again
        run.log(f"sonoformer {verb} {' '.join(map(str, checkpoints))}", show=False)
        with progress_bar("listening", "clips") as progress:
            rows = run_suite(
                checkpoints,
                config,
                run,
                seed=seed,
                device=device,
                data=data,
                cache=cache,
                progress=progress,
            )
        say((out / "table.md").read_text(encoding="utf-8") if rows else "no task could be done")
        say(f"wrote {out / 'table.csv'}, table.json and table.md")


_NESTED = frozenset(
    name
    for part in ("linear", "weighted", "descent", "knn", "frames")
    for name in getattr(SuiteConfig(), part).__dataclass_fields__
)
