"""The optimizer passes that TensorRT logs: one entry a pass."""
