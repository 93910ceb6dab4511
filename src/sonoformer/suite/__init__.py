"""The task suite: any encoder on tasks of real sound, with floors, seeds and intervals."""

from sonoformer.suite.config import SuiteConfig
from sonoformer.suite.driver import run_suite
from sonoformer.suite.tasks import SUITE, SuiteTask

__all__ = ["SUITE", "SuiteConfig", "SuiteTask", "run_suite"]
