"""Post-training quantization: the stages from images to an inspected, measured INT8 model."""
