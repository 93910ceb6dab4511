"""Our models in the formats of other programs."""

from sonoformer.export.half import to_half
from sonoformer.export.onnx import OnnxExport, to_onnx
from sonoformer.export.transformers_ast import Export, to_transformers

__all__ = ["Export", "OnnxExport", "to_half", "to_onnx", "to_transformers"]
