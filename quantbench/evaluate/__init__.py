"""Measuring a quantized model against its float original: agreement, accuracy, SQNR, latency, with intervals."""
