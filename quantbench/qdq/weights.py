"""Scales of weights: symmetric INT8, per channel, from the largest magnitude of each or of the least squared error."""

import numpy as np
from numpy.typing import NDArray

from quantbench.qdq.options import WeightScales

INT8_MAX = 127
# A channel of zeros needs some positive scale; the smallest that FP16 can hold without being subnormal.
_SMALLEST_SCALE = np.float32(2.0**-14)
# Shares of the largest magnitude that the search of the least squared error tries.
_SHARES = np.linspace(1.0, 0.5, 26)


def weight_scale(weight: NDArray[np.floating], axis: int | None, method: WeightScales = "max") -> NDArray[np.float32]:
    """Scale amax/127 of `weight`: shape [channels] along `axis`, or [] for per tensor (float32).

    With `method` mse amax is that share of the largest magnitude, down to half of it, under which the squared error of
    the channel's weights is least; 1 where shares tie. Sources: Wu et al., "Integer quantization for deep learning
    inference", arXiv:2004.09602, section 3; Nagel et al., "A white paper on neural network quantization",
    arXiv:2106.08295, section 3.1 (MSE).
    """
    magnitude = np.abs(weight.astype(np.float32))
    if axis is None:
        amax = np.max(magnitude)
    else:
        amax = np.max(magnitude, axis=tuple(i for i in range(weight.ndim) if i != axis))
    scale = np.asarray(amax / np.float32(INT8_MAX), dtype=np.float32)
    scale = np.where(scale > 0, scale, _SMALLEST_SCALE).astype(np.float32)
    return scale if method == "max" else _of_least_error(weight, scale, axis)


def _of_least_error(
    weight: NDArray[np.floating], largest: NDArray[np.float32], axis: int | None
) -> NDArray[np.float32]:
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    shape = [1] * weight.ndim
    if axis is not None:
        shape[axis] = -1
    best, least = largest, np.full(largest.shape, np.inf)
    for share in _SHARES:
        scale = (largest * np.float32(share)).astype(np.float32)
        error = quantize_weight(weight, scale, axis) * scale.reshape(shape) - weight.astype(np.float32)
        found = np.sum(np.square(error), axis=others, dtype=np.float64)
        best = np.where(found < least, scale, best)
        least = np.minimum(found, least)
    return best.astype(np.float32)


def quantize_weight(weight: NDArray[np.floating], scale: NDArray[np.float32], axis: int | None) -> NDArray[np.int8]:
    """round-half-even(weight / scale) clipped to [-128, 127], as ONNX QuantizeLinear defines it."""
    shape = [1] * weight.ndim
    if axis is not None:
        shape[axis] = -1
    steps = np.asarray(weight.astype(np.float32, copy=False) / scale.reshape(shape))
    np.rint(steps, out=steps)
    quantized: NDArray[np.int8] = np.clip(steps, -128, INT8_MAX, out=steps).astype(np.int8)
    return quantized
