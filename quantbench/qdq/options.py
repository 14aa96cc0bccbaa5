"""Switches of the placement rules; a recipe sets them under `placement:`. How weights become integers."""

from dataclasses import dataclass
from typing import Literal

WeightScales = Literal["max", "mse"]
# The first of each is what happens unless another is asked for.
WEIGHT_SCALES: tuple[WeightScales, ...] = ("max", "mse")
ROUNDINGS = ("nearest", "adaptive")
# Sweeps of bias correction (`quantbench.qdq.correct_bias`), each under the biases of the one before.
BIAS_SWEEPS, FULL_BIAS_SWEEPS = 2, 4


@dataclass(frozen=True, slots=True)
class WeightOptions:
    """How weights become integers. `scales`: per channel from the largest magnitude, or of the least squared error;
    `adaptive`: those of the worst layers are rounded for the outputs (`quantbench.qdq.adaptive_rounding`);
    `judged`: if the network's own are nearer for it (`quantbench.core.full_effort`). `bias_sweeps` go with that."""

    scales: WeightScales = "max"
    adaptive: bool = False
    judged: bool = False
    bias_sweeps: int = BIAS_SWEEPS


@dataclass(frozen=True, slots=True)
class PlacementOptions:
    """Which rules run. The defaults are what TensorRT fuses best at no cost in accuracy that we could measure.

    `tiny_channels`: a conv with fewer output channels stays float before an output, and elsewhere where nothing around
    it is INT8. `tiny_anywhere`: elsewhere it is quantized in any case, and what feeds it for its sake.
    `keep_float`: patterns (fnmatch) of node names.
    `residual`: quantize the residual input of an Add that a conv can take in, both inputs of one that none can, where
    the sum is read in INT8 and by no layer norm. `residual_db`: but not where calibration finds less signal over noise
    in it, in dB (0: never mind).
    `pooling`: quantize the input of average pooling between quantized layers.
    `add_both`: quantize the conv branch of a residual Add too: for onnxruntime, whose fast convs only write INT8;
    TensorRT fuses the Add better without.
    `for_onnxruntime`: quantize what onnxruntime's integer kernels on a CPU read and write, in place of `head_float`,
    `tiny_channels`, `residual` and `pooling`.
    `head_float`: keep the last layers in float, but for a classifier's Gemm behind a global average pooling.
    `log_float`: keep in float what a Log reads.
    `squeeze_float`: keep the convs of squeeze-and-excite blocks in float.
    `silu_residual`: of an Add behind a conv with SiLU quantize the residual input alone: TensorRT from 10 on makes one
    layer of the three (docs/prediction.md), older versions do not.
    `plugin_int8`: patterns of names or operators of plugins whose inputs get Q/DQ; `plugin_tensors`: of those that take
    INT8 tensors, a Q alone.
    `matmul`: quantize both inputs of a MatMul of two activations, where TensorRT's attention takes INT8.
    """

    residual: bool = True
    residual_db: float = 15.0
    add_both: bool = False
    for_onnxruntime: bool = False
    pooling: bool = True
    share_concat: bool = True
    share_movers: bool = True
    head_float: bool = True
    log_float: bool = True
    squeeze_float: bool = True
    tiny_channels: int = 8
    tiny_anywhere: bool = False
    matmul: bool = False
    silu_residual: bool = False
    per_channel: bool = True
    keep_float: tuple[str, ...] = ()
    plugin_int8: tuple[str, ...] = ()
    plugin_tensors: tuple[str, ...] = ()
