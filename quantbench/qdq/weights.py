"""Scales of weights: symmetric INT8, per channel from the largest magnitude of each channel."""

import numpy as np
from numpy.typing import NDArray

INT8_MAX = 127
# A channel of zeros needs some positive scale; the smallest that FP16 can hold without being subnormal.
_SMALLEST_SCALE = np.float32(2.0**-14)


def weight_scale(weight: NDArray[np.floating], axis: int | None) -> NDArray[np.float32]:
    """Scale amax/127 of `weight`: shape [channels] along `axis`, or [] for per tensor (float32).

    Source: Wu et al., "Integer quantization for deep learning inference", arXiv:2004.09602, section 3.
    """
    magnitude = np.abs(weight.astype(np.float32))
    if axis is None:
        amax = np.max(magnitude)
    else:
        amax = np.max(magnitude, axis=tuple(i for i in range(weight.ndim) if i != axis))
    scale = np.asarray(amax / np.float32(INT8_MAX), dtype=np.float32)
    return np.where(scale > 0, scale, _SMALLEST_SCALE).astype(np.float32)


def quantize_weight(weight: NDArray[np.floating], scale: NDArray[np.float32], axis: int | None) -> NDArray[np.int8]:
    """round-half-even(weight / scale) clipped to [-128, 127], as ONNX QuantizeLinear defines it."""
    shape = [1] * weight.ndim
    if axis is not None:
        shape[axis] = -1
    steps = np.rint(weight.astype(np.float32) / scale.reshape(shape))
    quantized: NDArray[np.int8] = np.clip(steps, -128, INT8_MAX).astype(np.int8)
    return quantized
