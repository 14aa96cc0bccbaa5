"""The one table of ONNX operators: the class of each, and what TensorRT does with it.

Placement rules, predictor, lint, calibration caches, QAT and inspection read it, so that they agree. An operator that
it lacks is `OTHER`: it computes in float, and no Q or DQ moves past it.

Sources, by the short names in the column `source`:
- guide: NVIDIA, TensorRT Developer Guide, "Explicit quantization" (Q and DQ commute with data movement; placement).
- fusions: same guide, "Layer fusion catalog" (convolution with ReLU, GELU, Clip or Scale; pointwise chains).
- precision: NVIDIA, TensorRT Support Matrix, "Layers and precision", column INT8.
- trt852: the verbose log in tests/data/artefacts/logs; a100, poetry: TREx's engines in tests/data/artefacts/json.
- yolov8: a public verbose log of YOLOv8 (8.5). rtx3090: TREx's TensorFlow resnet-qat engine.
- trt86: a public log of BEVFusion's camera backbone (8.6.0, RTX 3080 Ti). trt109: one of RT-DETRv2 (10.9, RTX 4090).
- onnx: the ONNX operator specification alone; nothing at hand shows what TensorRT does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Kind(str, Enum):
    """What an operator does."""

    WEIGHTED = "weighted"  # a product with weights, where one operand is constant
    AFFINE = "affine"  # + - * /: with a constant operand a scale or bias
    BINARY = "binary"  # other arithmetic on two or more tensors, element by element
    UNARY = "unary"  # a function of each element, no activation by name
    ACTIVATION = "activation"  # a function of each element that networks use as nonlinearity
    NORM = "norm"
    AVERAGE = "average"  # mean over positions: between the smallest and largest of its values
    REDUCE = "reduce"
    SOFTMAX = "softmax"
    IDENTITY = "identity"  # nothing, at inference
    SHUFFLE = "shuffle"  # same values in the same or another order: TensorRT's IShuffleLayer
    MOVE = "move"  # values are selected, repeated or put elsewhere; none is computed
    JOIN = "join"
    RESIZE = "resize"  # moves values in nearest mode only
    PAD = "pad"
    INDEX = "index"  # values chosen by computed indices
    SHAPE = "shape"  # a function of shapes, not of values
    LOGIC = "logic"
    CAST = "cast"
    QUANTIZE = "quantize"
    CONTROL = "control"
    RECURRENT = "recurrent"
    OTHER = "other"


class Evidence(str, Enum):
    """How well it is known that TensorRT does something."""

    SHOWN = "shown"  # by a log or an engine
    GUIDE = "guide"  # NVIDIA's documentation says so, or it follows from it
    NO = "no"  # nothing says so


class Myelin(str, Enum):
    """Which compiler within TensorRT takes the operator (see predict/passes/myelin.py)."""

    NATIVE = "native"  # TensorRT's own kernels, whatever stands around it
    SEED = "seed"  # Myelin, and it pulls its surroundings there
    EITHER = "either"  # as its surroundings


class Sign(str, Enum):
    """What is known of the sign of its output."""

    POSITIVE = "never negative"
    FIRST = "never negative where input 0 is not"
    ALL = "never negative where no input is"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Operator:
    """One row. `keeps`: output values are values of input 0, so one scale serves both sides. `swaps`: Q moves backward
    and DQ forward past it. `fuses`: it goes into the weighted layer before it. `int8`: it computes in INT8, given
    ranges or Q/DQ on both sides."""

    name: str
    kind: Kind
    source: str
    keeps: bool = False
    swaps: Evidence = Evidence.NO
    fuses: Evidence = Evidence.NO
    int8: bool = False
    myelin: Myelin = Myelin.EITHER
    sign: Sign = Sign.ANY


def _rows(names: str, kind: Kind, source: str, **columns: Any) -> list[Operator]:
    return [Operator(name, kind, source, **columns) for name in names.split()]


_NATIVE: Mapping[str, Any] = {"myelin": Myelin.NATIVE}
_SEED: Mapping[str, Any] = {"myelin": Myelin.SEED}
_SHOWN, _GUIDE = Evidence.SHOWN, Evidence.GUIDE

OPERATORS: Mapping[str, Operator] = {row.name: row for row in [
    *_rows("Conv ConvTranspose Gemm MatMul", Kind.WEIGHTED, "trt852, a100, precision", int8=True, **_NATIVE),
    *_rows("Add", Kind.AFFINE, "trt852 (ConvEltwiseSumFusion); precision", int8=True, sign=Sign.ALL),
    *_rows("Mul", Kind.AFFINE, "precision", int8=True, sign=Sign.ALL),
    *_rows("Sub Div", Kind.AFFINE, "fusions"),
    *_rows("Max Min", Kind.BINARY, "fusions", sign=Sign.ALL),
    *_rows("Sum", Kind.BINARY, "trt852 (as Add)", sign=Sign.ALL),
    *_rows("Pow Mean Mod", Kind.BINARY, "fusions"),
    *_rows("Sqrt Exp Abs", Kind.UNARY, "fusions", sign=Sign.POSITIVE),
    *_rows("Neg Log Reciprocal Erf Floor Ceil Round Sign Sin Cos Tan", Kind.UNARY, "fusions"),
    *_rows("Relu", Kind.ACTIVATION, "trt852 (ConvReluFusion), a100", fuses=_SHOWN, sign=Sign.POSITIVE),
    *_rows("Clip", Kind.ACTIVATION, "a100 (mobilenet.qat)", fuses=_SHOWN),
    *_rows("LeakyRelu", Kind.ACTIVATION, "poetry", fuses=_SHOWN),
    *_rows("Sigmoid", Kind.ACTIVATION, "yolov8 (with its Mul)", fuses=_SHOWN, sign=Sign.POSITIVE),
    *_rows("HardSigmoid Softplus", Kind.ACTIVATION, "fusions", fuses=_GUIDE, sign=Sign.POSITIVE),
    *_rows("PRelu HardSwish Tanh Elu Selu Celu Softsign ThresholdedRelu Mish Gelu Swish", Kind.ACTIVATION, "fusions",
           fuses=_GUIDE),
    *_rows("BatchNormalization", Kind.NORM, "trt852 (ConvScaleFusion); precision (IScaleLayer)", fuses=_SHOWN,
           int8=True, **_NATIVE),
    *_rows("InstanceNormalization LRN", Kind.NORM, "trt852", **_NATIVE),
    *_rows("LayerNormalization", Kind.NORM, "trt109 (in Myelin)", **_SEED),
    *_rows("GroupNormalization LpNormalization RMSNormalization MeanVarianceNormalization", Kind.NORM, "onnx"),
    *_rows("SimplifiedLayerNormalization SkipLayerNormalization", Kind.NORM, "onnxruntime's contrib operators"),
    *_rows("AveragePool GlobalAveragePool ReduceMean", Kind.AVERAGE, "a100 (resnet-qat-residual-qgap); precision",
           int8=True, sign=Sign.FIRST, **_NATIVE),
    *_rows("GlobalMaxPool ReduceMax", Kind.REDUCE, "onnx", sign=Sign.FIRST),
    *_rows("ReduceMin ReduceSum ReduceProd ReduceL1 ReduceL2 ArgMax ArgMin TopK", Kind.REDUCE, "onnx"),
    *_rows("Softmax", Kind.SOFTMAX, "yolov8", sign=Sign.POSITIVE),
    *_rows("LogSoftmax Hardmax", Kind.SOFTMAX, "onnx"),
    # Moves. The parser erases identities and writes Split as Slices, so Q and DQ pass them too.
    *_rows("Identity Dropout", Kind.IDENTITY, "trt852 (ShuffleErasure)", keeps=True, swaps=_GUIDE, sign=Sign.FIRST),
    *_rows("Reshape", Kind.SHUFFLE, "rtx3090, trt86", keeps=True, swaps=_SHOWN, sign=Sign.FIRST),
    *_rows("Transpose", Kind.SHUFFLE, "rtx3090", keeps=True, swaps=_SHOWN, sign=Sign.FIRST),
    *_rows("Flatten", Kind.SHUFFLE, "a100", keeps=True, swaps=_SHOWN, sign=Sign.FIRST),
    *_rows("Squeeze Unsqueeze", Kind.SHUFFLE, "guide", keeps=True, swaps=_GUIDE, sign=Sign.FIRST),
    *_rows("MaxPool", Kind.MOVE, "a100, trt86, trt109; precision", keeps=True, swaps=_SHOWN, int8=True, sign=Sign.FIRST,
           **_NATIVE),
    *_rows("Slice", Kind.MOVE, "trt852", keeps=True, swaps=_SHOWN, sign=Sign.FIRST),
    *_rows("Split", Kind.MOVE, "guide; a Slice for each output", keeps=True, swaps=_GUIDE, sign=Sign.FIRST),
    *_rows("Tile DepthToSpace SpaceToDepth", Kind.MOVE, "guide", keeps=True, swaps=_GUIDE, sign=Sign.FIRST),
    *_rows("Expand", Kind.MOVE, "guide; trt852 (in Myelin)", keeps=True, swaps=_GUIDE, sign=Sign.FIRST, **_SEED),
    # By its values a mover; but TensorRT leaves it to Myelin and no log shows a Q or DQ passing it.
    *_rows("Gather", Kind.INDEX, "trt852 (in Myelin)", keeps=True, sign=Sign.FIRST, **_SEED),
    *_rows("GatherND GatherElements", Kind.INDEX, "trt852 (in Myelin)", **_SEED),
    *_rows("ScatterND ScatterElements NonZero", Kind.INDEX, "onnx", **_SEED),
    *_rows("NonMaxSuppression", Kind.INDEX, "trt852", **_NATIVE),
    *_rows("GridSample", Kind.INDEX, "trt109 (in Myelin)", **_SEED),
    *_rows("RoiAlign", Kind.INDEX, "onnx"),
    *_rows("Concat", Kind.JOIN, "trt852 (SplitQAcrossPrecedingFanIn)", int8=True, sign=Sign.ALL),
    *_rows("Resize", Kind.RESIZE, "trt852, trt86, trt109 (nearest); precision", swaps=_SHOWN, int8=True, **_NATIVE),
    *_rows("Pad", Kind.PAD, "rtx3090 (zeros, last two of four dimensions)", swaps=_SHOWN),
    *_rows("Shape", Kind.SHAPE, "trt852 (in Myelin)", **_SEED),
    *_rows("Size", Kind.SHAPE, "onnx"),
    *_rows("ConstantOfShape Constant", Kind.SHAPE, "onnx"),
    *_rows("Range", Kind.SHAPE, "trt852 (in Myelin)", **_SEED),
    *_rows("Where Equal Greater Less Not", Kind.LOGIC, "trt852 (in Myelin)", **_SEED),
    *_rows("And Or Xor GreaterOrEqual LessOrEqual IsNaN IsInf", Kind.LOGIC, "onnx"),
    *_rows("Cast", Kind.CAST, "trt852 (in Myelin)", **_SEED),
    *_rows("Einsum CumSum", Kind.OTHER, "onnx", **_SEED),
    *_rows("QuantizeLinear DequantizeLinear", Kind.QUANTIZE, "guide", **_NATIVE),
    *_rows("Loop If Scan", Kind.CONTROL, "onnx", **_NATIVE),
    *_rows("LSTM GRU RNN", Kind.RECURRENT, "onnx"),
]}  # fmt: skip


def _where(chosen: Callable[[Operator], bool]) -> frozenset[str]:
    return frozenset(row.name for row in OPERATORS.values() if chosen(row))


def of_kind(*kinds: Kind) -> frozenset[str]:
    """Names of the operators of these kinds."""
    return _where(lambda row: row.kind in kinds)


def kind_of(op: str) -> Kind:
    """Class of operator `op`, OTHER where the table lacks it."""
    row = OPERATORS.get(op)
    return row.kind if row is not None else Kind.OTHER


def sign_of(op: str) -> Sign:
    """What is known of the sign of the output of `op`."""
    row = OPERATORS.get(op)
    return row.sign if row is not None else Sign.ANY


# Axis of a Q or DQ that does not state it (ONNX operator specification).
QDQ_AXIS = 1
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
CONVS = frozenset({"Conv", "ConvTranspose"})
# Those that have a bias input (ONNX: the third).
BIASED = CONVS | {"Gemm"}
WEIGHTED = of_kind(Kind.WEIGHTED)
MATRIX = WEIGHTED - CONVS
RECURRENT = of_kind(Kind.RECURRENT)
# Norms over the channels or positions of one sample: not those that a conv takes in, nor LRN.
SAMPLE_NORMS = of_kind(Kind.NORM) - {"BatchNormalization", "LRN"}
AVERAGES = of_kind(Kind.AVERAGE)
# Those that leave a value, not an index.
REDUCTIONS = of_kind(Kind.REDUCE) - {"ArgMax", "ArgMin", "TopK"}
ACTIVATIONS = of_kind(Kind.ACTIVATION)
# Near their bounds they fall off as exp does, so that a Log of them is no steeper than what they are given.
UNDONE_BY_LOG = frozenset({"Exp", "Sigmoid", "Softplus", "Tanh", "Elu", "Selu", "Celu", "Erf"})
# onnxruntime runs them on integers: QLinearSigmoid and QLinearLeakyRelu, and what can be written as the former.
INTEGER_UNARY = frozenset({"Sigmoid", "LeakyRelu", "HardSigmoid", "HardSwish"})
AFFINE = of_kind(Kind.AFFINE)
ARITHMETIC = of_kind(Kind.AFFINE, Kind.BINARY, Kind.UNARY)
# What computes each element of its output from the elements at the same place, whatever the compiler.
POINTWISE = ARITHMETIC | ACTIVATIONS | {"BatchNormalization"}
IDENTITIES = of_kind(Kind.IDENTITY)
SHUFFLES = of_kind(Kind.SHUFFLE)
KEEPS_VALUES = _where(lambda row: row.keeps)
JOINS_AND_MOVES = KEEPS_VALUES | {"Concat", "Resize", "Pad"}
SWAPS = _where(lambda row: row.swaps is not Evidence.NO)
SWAPS_SHOWN = _where(lambda row: row.swaps is Evidence.SHOWN)
FUSED = _where(lambda row: row.fuses is not Evidence.NO)
FUSED_SHOWN = _where(lambda row: row.fuses is Evidence.SHOWN)
INT8 = _where(lambda row: row.int8)
MYELIN_SEEDS = _where(lambda row: row.myelin is Myelin.SEED)
NATIVE = _where(lambda row: row.myelin is Myelin.NATIVE)


def keeps_values(op: str, attributes: Mapping[str, Any]) -> bool:
    """Whether `op` only moves or selects values of its first input. Resize does in nearest mode, ONNX's default."""
    return op in KEEPS_VALUES or (op == "Resize" and attributes.get("mode", "nearest") == "nearest")
