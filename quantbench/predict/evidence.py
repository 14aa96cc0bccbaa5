"""What shows each thing that the simulation does: the log, engine or report, version by version; or nothing yet.

`TRAITS` is the one table: layers and Q/DQ of a prediction carry its keys, `confidence` reads it, `docs/prediction.md`
and `quantbench predict --explain-version` print it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from quantbench.predict.versions import Version

SEEN, ELSEWHERE, GUESS = "seen", "seen in another version", "guess"
LEVELS = (SEEN, ELSEWHERE, GUESS)

A100 = "A100 engines of TREx"
TRT852 = "trt852 log"
YOLO84 = "yolov8 log (quoted)"
BB860, FU860, HD860 = "BEVFusion backbone log", "BEVFusion fuser log", "BEVFusion head log"
RTDETR = "RT-DETRv2 log"


@dataclass(frozen=True, slots=True)
class Trait:
    """`text`: what is done, as a reason to believe or not. `seen`: version to what shows it."""

    text: str
    seen: Mapping[str, str] = field(default_factory=dict)


TRAITS: dict[str, Trait] = {
    "int8-conv": Trait(
        "an INT8 conv takes the DQs of its input and weights, and the Q behind it where nothing else reads it",
        {"8.4": A100, "8.5.2": TRT852, "8.5.10": "8 of 8 convs, reported", "8.6.0": BB860,
         "8.6.1": "YOLOv8n, counts", "10.9": RTDETR, "10.14": "YOLOv8n, counts", "10.15": "one conv, reported",
         "10.16": "NVIDIA's guide to benchmarking", "11.1": "stem, reported"}),
    "bn": Trait("a BatchNormalization (with its Relu) goes into the quantized conv and leaves no name",
                {"8.4": A100, "8.5.2": TRT852, "10.9": RTDETR}),
    "relu": Trait("a Relu goes into what feeds it",
                  {"8.4": A100, "8.5.2": TRT852, "8.6.0": BB860, "10.9": RTDETR, "10.15": "one conv, reported"}),
    "activation": Trait("LeakyRelu and Clip go into the conv, as PWN(x)", {"8.4": A100, "8.5.2": TRT852}),
    "silu": Trait("SiLU goes into the quantized conv, as PWN(Sigmoid, Mul)",
                  {"10.9": RTDETR, "10.14": "YOLOv8n: 39 convs with SiLU write INT8"}),
    "silu-float": Trait("SiLU goes into a float conv", {"10.5": "YOLO FP16 log", "10.7": "YOLO11 FP16 engine"}),
    "silu-residual": Trait("conv, SiLU and a residual Add are one layer",
                           {"10.5": "YOLO FP16 log", "10.7": "YOLO11 FP16 engine",
                            "10.14": "YOLOv8n: 39 of 64 convs write INT8 (40 predicted; 36 without this rule)"}),
    "activation-shared": Trait("an activation that several layers read stays out of the conv", {"10.9": RTDETR}),
    "pointwise-chain": Trait("elementwise layers that follow one another become one PWN",
                             {"8.4": "levit128s log", "8.5.2": TRT852, "10.9": RTDETR}),
    "pointwise-takes-q": Trait("a pointwise layer takes the Q alone behind it (QuantizeGenericNodes)",
                               {"10.9": RTDETR}),
    "residual-int8": Trait("conv, Add and Q with a DQ on the other input are one INT8 layer with an INT8 residual",
                           {"8.4": A100, "8.5.10": "ResNet-18, reported", "8.6.0": BB860}),
    "sum": Trait("a conv takes the float Add behind it", {"8.4": A100, "8.5.2": TRT852, "10.9": RTDETR}),
    "sum-of-two": Trait("of two convs the later one takes the Add", {"8.4": A100, "10.9": RTDETR}),
    "stem-pool": Trait("an INT8 stem with its Relu takes the MaxPool",
                       {"8.4": A100, "8.6.0": BB860, "11.1": "stem, reported"}),
    "int8-gemm": Trait("a Gemm or MatMul of [N, C] by weights computes in INT8", {"8.4": A100}),
    "int8-deconv": Trait("an INT8 ConvTranspose leaves the Q behind it (NVIDIA/TensorRT issue 2597, on 8.5)",
                         {"8.6.0": FU860}),
    "deconv-bn": Trait("a quantized ConvTranspose takes the BatchNormalization behind it: by the name of 10's pass"),
    "int8-conv-rank": Trait("an INT8 conv on other than four dimensions: no log at hand shows one"),
    "int8-matmul-activations": Trait("an INT8 MatMul of two activations: no log at hand shows one"),
    "int8-matmul-rank": Trait("an INT8 MatMul of three and more dimensions by weights outside of Myelin: no log at "
                              "hand shows one"),
    "int8-elementwise": Trait("an INT8 elementwise layer: no log at hand shows its DQs being taken"),
    "int8-pooling": Trait("an average pooling between DQ and Q computes in INT8",
                          {"8.4": "A100 resnet-qat-residual-qgap", "10.9": RTDETR}),
    "pooling-without-q": Trait("an average pooling with a DQ before it but no Q alone behind it stays float"),
    "constant-scale": Trait("a Mul or Add by constants goes into the layer before it"),
    "merged-convs": Trait("whether parallel convs merge also depends on kernels", {}),
    "relu-past-qdq": Trait("Q and DQ between an INT8 conv and its Relu go behind the Relu: one layer",
                           {"10.9": "H800 and RTX 4090 report", "10.15": "ResNet-18, 43 layers, reported"}),
    "twins": Trait("Qs that read one tensor with one scale become one; the first stays (8.5.2: the last)",
                   {"8.4": f"{A100}, {YOLO84}", "8.5.2": TRT852, "8.5.10": "8 of 8, reported", "8.6.0": BB860,
                    "10.9": RTDETR}),
    "dq-fan-out": Trait("a DQ with several readers becomes one DQ a reader", {"10.9": RTDETR}),
    "dq-q-meet": Trait("a DQ and a Q of one scale that meet go (DqQFusion)", {"8.6.0": BB860}),
    "q-split-concat": Trait("a Q behind a Concat is cloned into each branch",
                            {"8.4": YOLO84, "8.5.2": TRT852, "8.6.0": BB860, "10.9": RTDETR}),
    "moves-MaxPool": Trait("Q moves before a MaxPool", {"8.4": A100, "8.6.0": BB860, "10.9": RTDETR}),
    "moves-Resize": Trait("Q moves before a Resize", {"8.4": YOLO84, "8.5.2": TRT852, "8.6.0": BB860, "10.9": RTDETR}),
    "moves-Slice": Trait("Q moves before a Slice", {"8.4": YOLO84}),
    "moves-Flatten": Trait("Q moves before a Flatten", {"8.4": A100}),
    "moves-Pad": Trait("Q moves before a Pad of height and width", {"8.4": "TREx, TensorFlow resnet-qat"}),
    "moves-Reshape": Trait("Q and DQ move past a Reshape", {"8.4": "TREx, TensorFlow resnet-qat", "8.6.0": BB860}),
    "moves-Transpose": Trait("Q and DQ move past a Transpose", {"8.4": "TREx, TensorFlow resnet-qat"}),
    "left-over": Trait("a Q or DQ that no layer takes becomes a Reformat of its own",
                       {"8.4": A100, "8.5.2": TRT852, "8.6.0": FU860, "10.9": RTDETR, "10.10": "stem, reported",
                        "10.14": "YOLOv8n: 41 of them", "10.15": "one conv, reported"}),
    "concat-copy": Trait("what comes from a Resize, a pooling or a view is copied into a Concat",
                         {"8.5.2": TRT852, "8.6.0": BB860, "10.9": RTDETR}),
    "concat-shared": Trait("what another layer reads too is copied into a Concat", {"8.6.0": BB860, "10.9": RTDETR}),
    "concat-stomps": Trait("an INT8 input that ends inside a vector of 32 channels is copied into a Concat",
                           {"8.6.0": FU860}),
    "own-kernel": Trait("a layer of its own: no log at hand shows this operator outside of Myelin"),
    "reshaped": Trait("a Reshape is a view", {"8.4": "levit128s log", "8.6.0": BB860}),
    "slice-copy": Trait("a Slice that a Softmax reads is a copy", {"8.6.0": BB860}),
    "myelin": Trait("index arithmetic and what touches it go to Myelin",
                    {"8.5.2": TRT852, "8.6.0": HD860, "10.9": RTDETR}),
    "myelin-matmul": Trait("attention (8.6) and matrix products (10) go to Myelin",
                           {"8.6.0": "NVIDIA/TensorRT issues 3243, 3280", "8.6.1": "the same", "10.9": RTDETR}),
    "blackwell": Trait("on Blackwell convs are Myelin kernels (correlation), residual Adds and Qs kernels of their own "
                       "(kgen), Conv+Relu+MaxPool one (conv_act_pool)",
                       {"11.1": "stem on sm_120, reported; lix_dmt_bev engine on sm_100"}),
    "format-pooling": Trait("formats: a reformat between an INT8 conv that writes float and a float pooling",
                            {"8.4": A100}),
    "format-residual": Trait("formats: one engine shows this reformat (A100 resnet-qat, MaxPool_12)"),
    "format-float-conv": Trait("formats: a reformat where a float conv meets CHW32 or the network's ends",
                               {"8.6.0": FU860, "10.9": "fuzzy_resnet18 FP16 engine (10.x)"}),
    "format-shuffle": Trait("formats: a reformat before a Transpose that an INT8 conv feeds", {"8.6.0": BB860}),
    "format-deconv": Trait("formats: a reformat behind an INT8 ConvTranspose", {"8.6.0": FU860}),
    "format-myelin": Trait("formats: a reformat at each float end of a ForeignNode in FP16 builds",
                           {"8.6.0": HD860, "10.9": RTDETR}),
    "format-linear-int8": Trait("formats: an INT8 conv does not read what a Reshape leaves linear", {"8.6.0": BB860}),
}  # fmt: skip
_UNSEEN_MOVE = "by NVIDIA's guide, no log at hand shows it"


def trait(key: str) -> Trait:
    """The trait of `key`; movers without a row of their own are known by NVIDIA's guide alone."""
    found = TRAITS.get(key)
    if found is None:
        found = Trait(f"Q or DQ moves past {key.removeprefix('moves-')}: {_UNSEEN_MOVE}")
    return found


def confidence(version: Version, keys: Iterable[str]) -> tuple[str, str]:
    """The least confidence among `keys` in `version`, and for a guess its reason ("" otherwise)."""
    worst, why = SEEN, ""
    for key in keys:
        found = trait(key)
        level = SEEN if version.name in found.seen else (ELSEWHERE if found.seen else GUESS)
        if LEVELS.index(level) > LEVELS.index(worst):
            worst, why = level, found.text if level == GUESS else ""
    return worst, why
