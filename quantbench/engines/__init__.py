"""Engines: build, run and discover backends (onnxruntime, TensorRT 10, TensorRT 11, TensorRT-RTX)."""
