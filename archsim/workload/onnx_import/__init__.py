"""ONNX files as operator graphs."""

from archsim.workload.onnx_import.workload import OnnxWorkload, load_onnx

__all__ = ["OnnxWorkload", "load_onnx"]
