"""Write models for runtimes other than torch."""

from .onnx import export_onnx

__all__ = ["export_onnx"]
