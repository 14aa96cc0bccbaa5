"""Advice on Q/DQ models: what will cost time in TensorRT, where, how much, and the mend."""
