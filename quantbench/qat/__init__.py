"""Quantization-aware training: safe loading, insertion by the Plan, calibration, fine-tuning, export."""
