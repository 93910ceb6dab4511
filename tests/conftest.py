"""What holds for every test."""

from __future__ import annotations

import os

# Tests run side by side, one process a core: more threads than cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

# A loaded machine is slow; no test is about time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
