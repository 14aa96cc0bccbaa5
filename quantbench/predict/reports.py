"""Published figures of TensorRT 8.6 to 11 that the prediction does not agree with, or that cannot be rebuilt.

Beside `evidence.TRAITS`, which says what shows each rule: here stands what is reported and stays unknown, version by
version. `quantbench predict --explain-version` and docs/prediction.md print it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

NOT_REBUILT = "not rebuilt"
_SCALES = "ModelOpt's scales are not public; here every conv's differs"
_SCALES86 = f"{_SCALES}, and that 8.6.1 leaves an Add behind SiLU out of the conv is a guess"
_DECODING = "rebuilt up to its six output maps, without box decoding and DFL; its copies between formats are not listed"
_YOLO, _YOLO86 = "YOLOv8n by ModelOpt, RTX 2060", "YOLOv8n by ModelOpt, RTX 2060, FP32 Q/DQ"

_RESNET = "ResNet-18 with Q/DQ on each conv output, Turing"
_MEET = "what a DQ and a Q of other scale that meet become is not told: two kernels are predicted"


@dataclass(frozen=True, slots=True)
class Unknown:
    """One figure of one report.

    `row`: its number in the list of reports (EVIDENCE-TRT10); `versions`: of TensorRT, as the report names them, as far
    as it does; `source`: network and GPU; `figure`: what is counted; `real`: as reported; `predicted`: the same of the
    network rebuilt, or `NOT_REBUILT`; `why`: what is missing to tell.
    """

    row: int
    versions: tuple[str, ...]
    source: str
    figure: str
    real: str
    predicted: str
    why: str


UNKNOWN: tuple[Unknown, ...] = (
    Unknown(1, ("10.14",), _YOLO, "convs that write INT8", "39 of 64", "40 of 63", _SCALES),
    Unknown(1, ("10.14",), _YOLO, "layers that compute and write INT8", "44", "45", _SCALES),
    Unknown(1, ("10.14",), _YOLO, "copies that are a Q or DQ", "41", "45", _SCALES),
    Unknown(1, ("10.14",), _YOLO, "reformats", "90", "59", _DECODING),
    Unknown(1, ("10.14",), _YOLO, "layers", "196", "142", _DECODING),
    Unknown(1, ("8.6.1",), _YOLO86, "layers that compute and write INT8", "49", "41", _SCALES86),
    Unknown(1, ("8.6.1",), _YOLO86, "reformats", "67", "63", _DECODING),
    Unknown(1, ("8.6.1",), _YOLO86, "layers", "171", "152", _DECODING),
    Unknown(5, ("10.15",), _RESNET, "layers", "43 to 44", "63", _MEET),
    Unknown(5, ("10.15",), _RESNET, "layers with an INT8 tensor", "38", "54", _MEET),
    Unknown(9, ("10.3",), "Qwen3-0.6B W8A8, Jetson", "MatMuls in INT8", "133 of 133", NOT_REBUILT,
            "the network is not at hand; that such a Linear is INT8 and a zero point refused agrees"),
    Unknown(10, ("11.0",), "yolo26n QAT, RTX 4060", "layers with INT8 weights", "78 of 207", NOT_REBUILT,
            "where its 154 pairs stand is not told; that a conv with no Q behind it writes float agrees"),
    Unknown(11, ("10.13", "11.2"), "yolo26m QAT, RTX PRO 6000", "latency against FP16", "slower", NOT_REBUILT,
            "only times are told, its logs are out of reach, and no time is claimed without a learnt device"),
    Unknown(16, ("10.14",), "ResNet-50 with calibrated ranges, RTX 4050", "which conv of a first block takes the Add",
            "the earlier in 3 of 4", "the later", "implicit INT8; Q/DQ logs of 8.4 and 10.9 show the later"),
    Unknown(17, ("8.5", "8.6"), "NVIDIA/TensorRT issue 2527", "conv + PWN(Clip) + DQ + clone of a Q", "1 layer",
            "3 layers", "one name is quoted: what stands between that DQ and Q, and their scales, are not told"),
    Unknown(17, ("8.6", "10.0", "10.1", "10.10"), "NVIDIA/TensorRT issues 3492, 3784, 4020, 4397", "kgen kernels",
            "many", NOT_REBUILT, "kernels inside Myelin are not claimed, and only layer types are quoted"),
)  # fmt: skip


def unknown_of(version: str) -> Iterator[Unknown]:
    """Those of `version`; a report that names only "8.5" is of 8.5.2 too, one of "10.1" is not of 10.10."""
    for item in UNKNOWN:
        if any(version == name or version.startswith(f"{name}.") for name in item.versions):
            yield item
