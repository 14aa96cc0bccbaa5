"""Views over ONNX: loading, naming, producers and consumers, folding, casting."""
