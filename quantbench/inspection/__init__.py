"""What any TensorRT ever logged or exported, read into layers, stories and verdicts; no engine is imported."""
