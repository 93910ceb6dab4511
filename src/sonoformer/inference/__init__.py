"""Windows of long recordings -> batches -> resumable tables."""

from sonoformer.inference.engine import Settings, compute_table
from sonoformer.inference.formats import FORMATS, write_table

__all__ = ["FORMATS", "Settings", "compute_table", "write_table"]
