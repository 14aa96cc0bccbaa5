"""What a predicted engine spends on float tensors, reformats and kernels, in bytes; `--placement best` makes it least.

A kernel costs its launch even where it moves little, so that a left-over DQ of a few values is not free. On an A100
the 33 Reformats of three profiled Q/DQ engines (tests/data/artefacts/json/trex_*) take 5.5 us each and 1.6 us for a MB
(least squares; a test fits it again): a launch is worth 3.5 MB.
"""

from dataclasses import replace

from quantbench.layers.layer import LayerTensor
from quantbench.predict.prediction import Prediction

LAUNCH_BYTES = 3_500_000
_FLOATS = ("FP32", "FP16", "BF16")


def cost_of(prediction: Prediction) -> int:
    """`moved_bytes`, and `LAUNCH_BYTES` for each layer. Arithmetic does not count: variants of a placement share it."""
    return moved_bytes(prediction) + LAUNCH_BYTES * len(prediction.layers)


def moved_bytes(prediction: Prediction) -> int:
    """Bytes that float activations, float weights and stand-alone reformats move; an unknown dimension counts as 1."""
    return sum(
        _bytes(tensor)
        for layer in prediction.layers
        for tensor in (*layer.inputs, *layer.outputs, *layer.constants)
        if tensor.dtype in _FLOATS or layer.type == "Reformat"
    )


def _bytes(tensor: LayerTensor) -> int:
    known = tuple(max(d, 1) for d in tensor.dims)
    return replace(tensor, dims=known).nbytes or 0
