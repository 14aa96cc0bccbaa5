"""Where TensorRT versions and GPUs differ, as the simulation asks for it. `evidence` says what shows each fact."""

from dataclasses import dataclass, replace

from quantbench.errors import QuantbenchError

DEFAULT = "10.9"  # the newest version whose Q/DQ build log is at hand


@dataclass(frozen=True, slots=True)
class PredictedFor:
    """The TensorRT version and the GPU that a user means to deploy on; "" for the best known. `device`: a learnt one
    to time on (quantbench/latency), "" for none."""

    tensorrt: str = ""
    gpu: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """Facts of one version on one GPU.

    `name` is what was asked for; `like` the version with evidence whose facts it takes. `last_twin_stays`: of Qs that
    read one tensor with one scale the last in network order stays. `relu_past_qdq`: Q and DQ between an INT8 conv and
    its Relu move behind the Relu. `pointwise_takes_q`: QuantizeGenericNodes. `float_silu`: SiLU goes into float convs.
    `deconv_scale`: a quantized ConvTranspose takes the BatchNormalization behind it. `myelin_attention`,
    `myelin_matmul`: what goes to Myelin (`passes.myelin`). `silu_residual`: conv, SiLU and Add are one layer.
    `whole_network_in_myelin`: convs too (Blackwell). `gpu`: "" where none was named.
    """

    name: str
    like: str
    number: tuple[int, ...]
    last_twin_stays: bool = False
    relu_past_qdq: bool = False
    pointwise_takes_q: bool = False
    float_silu: bool = False
    deconv_scale: bool = False
    myelin_attention: bool = False
    myelin_matmul: bool = False
    silu_residual: bool = False
    scale_pass: str = "QConvScaleFusion"
    whole_network_in_myelin: bool = False
    gpu: str = ""

    @property
    def backed(self) -> bool:
        """Whether a log or an engine of this very version is known."""
        return self.name == self.like

    @property
    def silu_fuses(self) -> bool:
        """Whether conv, SiLU and a residual Add are one layer: not on Blackwell."""
        return self.silu_residual and not self.whole_network_in_myelin

    @property
    def caveats(self) -> tuple[str, ...]:
        """What holds for the whole prediction: no evidence of the version, or of the GPU."""
        found = []
        if not self.backed:
            found.append(f"nothing of TensorRT {self.name} is at hand: it is taken to do as {self.like} does")
        elif self.name not in WITH_LOGS:
            found.append(f"no Q/DQ log of TensorRT {self.name} is at hand, only reports on engines: else as "
                         f"{'10.9' if self.number >= (10,) else '8.6.0'}")  # fmt: skip
        if self.whole_network_in_myelin:
            found.append("Blackwell: kernels are Myelin's; drawn from one engine and one stem")
        return tuple(found)


_TEN = Version("10.9", "10.9", (10, 9), relu_past_qdq=True, pointwise_takes_q=True, float_silu=True, deconv_scale=True,
               myelin_matmul=True, silu_residual=True, scale_pass="QConvOrDeconvScaleFusion")  # fmt: skip
_EIGHT = Version("8.4", "8.4", (8, 4))


def _of(base: Version, name: str, *, last_twin_stays: bool = False) -> Version:
    number = tuple(int(part) for part in name.split("."))
    attention = number[:2] == (8, 6)
    return replace(
        base, name=name, like=name, number=number, last_twin_stays=last_twin_stays, myelin_attention=attention
    )


# Those of which a Q/DQ log or the engines of whole networks are at hand.
WITH_LOGS = ("8.4", "8.5.2", "8.6.0", "10.9")
# Versions of which a log, an engine or a report on one is known, oldest first.
KNOWN: tuple[Version, ...] = (
    _EIGHT,
    _of(_EIGHT, "8.5.2", last_twin_stays=True),
    _of(_EIGHT, "8.5.10"),
    _of(_EIGHT, "8.6.0"),
    _of(_EIGHT, "8.6.1"),
    _of(_TEN, "10.5"),
    _of(_TEN, "10.7"),
    _TEN,
    _of(_TEN, "10.10"),
    _of(_TEN, "10.14"),
    _of(_TEN, "10.15"),
    _of(_TEN, "10.16"),
    _of(_TEN, "11.1"),
)
VERSIONS: dict[str, Version] = {version.name: version for version in KNOWN}
# Families: the version with the best evidence stands for its family.
_FAMILIES = {"8": "8.6.0", "8.4": "8.4", "8.5": "8.5.2", "8.6": "8.6.0", "10": DEFAULT, "11": "11.1"}

_OLDEST, _ABSURD = 7, 100  # major versions
BLACKWELL = ("sm100", "sm103", "sm110", "sm120", "sm121")
# name, compute capability, what is known of Q/DQ engines on it
GPUS: dict[str, tuple[str, str]] = {
    "sm75": ("Turing", "10.14 YOLOv8n (counts), 10.15 ResNet-18: convs as on Ampere"),
    "sm80": ("Ampere (A100, A30)", "8.4 engines of TREx"),
    "sm86": ("Ampere (RTX 30)", "8.6.0 logs, 10.10 stem"),
    "sm87": ("Orin", "8.5.2 and 8.5.10 logs"),
    "sm89": ("Ada (RTX 40)", "10.9 RT-DETRv2 log"),
    "sm90": ("Hopper", "10.9 report: conv, Q, DQ, Relu one layer"),
    "sm100": ("Blackwell (B100, B200)", "lix_dmt_bev engine: convs, residuals and stem are Myelin kernels"),
    "sm103": ("Blackwell (B300)", "as sm100 (guess)"),
    "sm110": ("Blackwell (Thor)", "as sm100 (guess)"),
    "sm120": ("Blackwell (RTX 50)", "11.1 stem: as sm100"),
    "sm121": ("Blackwell (GB10)", "as sm120 (guess)"),
}


def version_of(text: str, gpu: str = "") -> Version:
    """The facts for `text` ("8.5.2", "10", "10.12", "tensorrt-8.4"): those of the newest known version that is not
    newer, of the oldest known for older ones. `gpu`: "" or a key of `GPUS`.

    Raises QuantbenchError for a text that is no version, and for a GPU that is not known.
    """
    named = text.removeprefix("tensorrt").lstrip("-") or DEFAULT
    parts = named.split(".")
    if not all(part.isdecimal() and len(part) < 9 for part in parts) or not _OLDEST <= int(parts[0]) < _ABSURD:
        raise QuantbenchError(
            f"--for {text} is not known; it takes a version of TensorRT, as tensorrt-8.4, 8.6.1, 10.9 or 11 "
            f"(TensorRT-RTX compiles: quantbench build)"
        )
    gpu = gpu_of(gpu)
    number = tuple(int(part) for part in parts)
    family = _FAMILIES.get(named)
    if family is not None:
        found = VERSIONS[family]
    else:
        found = _nearest(number)
        if number[: len(found.number)] != found.number:
            found = replace(found, name=named, number=number)
    return replace(found, gpu=gpu, whole_network_in_myelin=gpu in BLACKWELL and number[0] >= 10)


def _nearest(number: tuple[int, ...]) -> Version:
    """The newest known version that is not newer, within the same minor version, else the same major one, if any is
    known there."""
    minor = [v for v in KNOWN if v.number[:2] == number[:2]]
    near = minor or [v for v in KNOWN if v.number[0] == number[0]] or list(KNOWN)
    older = [v for v in near if v.number <= number]
    return older[-1] if older else near[0]


def known_gpu(text: str) -> str:
    """`gpu_of`, "" for what is not known."""
    try:
        return gpu_of(text)
    except QuantbenchError:
        return ""


def gpu_of(text: str) -> str:
    """`text` as a key of `GPUS`: "sm_87", "87" and "8.7" are one. Raises QuantbenchError for others."""
    if not text:
        return ""
    digits = text.lower().removeprefix("sm").lstrip("_").replace(".", "")
    if f"sm{digits}" not in GPUS:
        raise QuantbenchError(f"--gpu {text} is not known; it takes {', '.join(GPUS)}")
    return f"sm{digits}"
