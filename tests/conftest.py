"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# A loaded machine is slow; no test is about time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
