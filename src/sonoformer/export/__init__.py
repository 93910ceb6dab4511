"""Our models in the formats of other programs."""

from sonoformer.export.transformers_ast import Export, to_transformers

__all__ = ["Export", "to_transformers"]
