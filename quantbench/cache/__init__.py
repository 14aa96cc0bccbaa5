"""Calibration caches of TensorRT and of other tools: read, judge, convert, and carry over to Q/DQ."""
