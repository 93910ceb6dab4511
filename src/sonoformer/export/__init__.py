"""Our models in the formats of other programs."""

from sonoformer.export.half import to_half
from sonoformer.export.transformers_ast import Export, to_transformers

__all__ = ["Export", "to_half", "to_transformers"]
