"""Building an engine of a quantized model and reading what became of it."""
