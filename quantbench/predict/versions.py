"""Where TensorRT versions differ, and which log or engine shows it; what none shows is a guess."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Version:
    """Facts of one version family that the simulation asks for.

    `last_twin_stays`: of Qs that read one tensor with one scale, the last in network order stays (8.5) or the first.
    `formats_shown`: engines at hand show the reformats of `passes.format_reformats`.
    `guesses`: facts that were carried over from the nearest version, because no log at hand shows them.
    """

    name: str
    last_twin_stays: bool
    formats_shown: bool = False
    guesses: tuple[str, ...] = ()


VERSIONS: dict[str, Version] = {
    "8.4": Version("8.4", last_twin_stays=False, formats_shown=True),
    "8.5": Version("8.5", last_twin_stays=True),
    "10": Version(
        "10", last_twin_stays=True, guesses=("no Q/DQ log of TensorRT 10 is at hand: it is taken to do as 8.5 does",)
    ),
}

# fact, 8.4, 8.5, 10, where it is shown
DIFFERENCES: tuple[tuple[str, str, str, str, str], ...] = (
    (
        "which of two twin Qs stays (HorizontalMergeQNodes)",
        "the first of the network; a clone never",
        "the last of the network; a clone never",
        "as 8.5 (guess)",
        "8.4: A100 resnet-qat (QuantizeLinear_65 stays), yolov8 log (clone_1 goes); 8.5: trt852 log "
        "(downsample.0 stays, conv1 goes)",
    ),
    (
        "which conv of two takes the Add (ConvEltwiseSumFusion)",
        "the later one in network order",
        "the later one (guess: the log has no Add of two convs)",
        "the later one",
        "8.4: A100 resnet-qat (Conv_95 + Add_97); 10: fuzzy_resnet18_fp16 (downsample.0/Conv + Add)",
    ),
    (
        "a Relu behind the BatchNormalization of a quantized conv",
        "leaves no name in the layer",
        "leaves no name in the layer",
        "as 8.5 (guess)",
        "yolov8 log 2.3.14, trt852 log (Removing ... + ...Relu), A100 engines",
    ),
    (
        "LeakyRelu and Clip behind a conv",
        "fused as PWN(x)",
        "fused as PWN(x)",
        "as 8.5 (guess)",
        "8.4: A100 mobilenet.qat (Conv_12 + PWN(Clip_16)); 8.5: trt852 log",
    ),
    (
        "Sigmoid and Mul (SiLU) behind a quantized conv",
        "fused (guess)",
        "fused (guess)",
        "fused (guess)",
        "no log at hand; NVIDIA/TensorRT issues 3542 and 3861 tell of it, and of cases where it fails",
    ),
    (
        "reformat between a float pooling and an INT8 conv that writes float or adds (builds with FP16)",
        "one a border",
        "one a border (guess)",
        "one a border (guess)",
        "8.4: A100 resnet-qat, mobilenet.qat, mobilenet_v2_residuals.qat; the 8.5 log is of a build without FP16",
    ),
)  # fmt: skip


def version_of(text: str) -> Version:
    """The family that `text` ("8.5.2", "10", "10.16") belongs to: the newest one that is not newer."""
    parts = [int(p) for p in text.split(".")[:2] if p.isdigit()]
    if not parts:
        return VERSIONS["10"]
    number = (parts[0], parts[1] if len(parts) > 1 else (99 if parts[0] == 8 else 0))
    if number < (8, 5):
        return VERSIONS["8.4"]
    return VERSIONS["8.5"] if number < (10, 0) else VERSIONS["10"]
