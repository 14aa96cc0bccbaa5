"""Data type and memory layout of a tensor, as autotuning lines print strides and as layer dumps print formats.

Strides are in vectors: `Half(1036800,1:8,5760,32)` is [C/8, H, W] with eight channels a vector, channels innermost.
Which stride is 1 tells channel-last from linear; kernels differ as much by that as by data type.
"""

import itertools
import math
import re
from dataclasses import dataclass
from functools import lru_cache

from quantbench.layers.formats import normalise_dtype
from quantbench.layers.layer import BYTES_PER_ELEMENT, LayerTensor

_STRIDED = re.compile(r"(?P<dtype>[A-Za-z]\w*)\((?P<strides>(?:\d{1,18}(?!\d)|[:,])*)\)")
_SHORT = {"kLINEAR": "linear", "": "linear", "NHWC": "hwc", "HWC": "hwc"}


@dataclass(frozen=True, slots=True, order=True)
class Format:
    """`dtype` as in `BYTES_PER_ELEMENT`; `layout` linear, hwc, hwc4, hwc8, hwc16, chw2, chw4, chw16, chw32 …"""

    dtype: str = "FP32"
    layout: str = "linear"

    @property
    def vector(self) -> int:
        """Channels that lie together and are padded to."""
        return _vector(self.layout)

    @property
    def family(self) -> str:
        """linear, hwc (channels innermost, whatever the padding) or the vectorized chwN."""
        return "hwc" if "hwc" in self.layout else self.layout

    @property
    def pooled(self) -> "Format":
        """The format that stands for all paddings of channels innermost."""
        return _pooled(self)

    def nbytes(self, dims: tuple[int, ...]) -> float:
        """Bytes of a tensor of NCHW `dims`, channels padded to the vector width."""
        size = BYTES_PER_ELEMENT.get(self.dtype, 4)
        if len(dims) < 2 or self.vector == 1:
            return float(math.prod(dims)) * size
        channel = 1 if len(dims) > 1 else 0
        padded = -(-dims[channel] // self.vector) * self.vector
        return float(math.prod(dims)) / max(dims[channel], 1) * padded * size

    def __str__(self) -> str:
        return f"{self.dtype}:{self.layout}"

    @classmethod
    def parse(cls, text: str) -> "Format":
        """The inverse of `str`."""
        dtype, _, layout = text.partition(":")
        return cls(dtype, layout or "linear")


@lru_cache(maxsize=256)
def _pooled(form: Format) -> Format:
    return Format(form.dtype, form.family)


@lru_cache(maxsize=256)
def _vector(layout: str) -> int:
    digits = re.search(r"\d{1,9}$", layout)
    return int(digits.group()) if digits else 1


@dataclass(frozen=True, slots=True)
class Strided:
    """A tensor of an autotuning line: its format, and its sizes from channels on as far as strides tell them.

    The batch is lost: the outermost stride says how far apart samples are, not how many there are.
    """

    format: Format
    sizes: tuple[int, ...]


def format_of(tensor: LayerTensor) -> Format:
    """Format of a tensor in a layer dump. Classic dumps say no more than a vector width: 1 then reads as linear.

    "Four wide channel vectorized" FP32 is what logs stride as channels innermost, padded to four: engines convert
    between it and channel-last by no operation at all.
    """
    dtype = tensor.dtype if tensor.dtype in BYTES_PER_ELEMENT else "FP32"
    name = _SHORT.get(tensor.format, tensor.format.lower().removeprefix("d"))
    if (dtype, name) == ("FP32", "chw4"):
        name = "hwc4"
    return Format(dtype, name)


def parse_strided(text: str) -> tuple[Strided, ...]:
    """Tensors of one side of an autotuning line, () for none; what is not understood is left out."""
    found: list[Strided] = []
    for match in _STRIDED.finditer(text):
        dtype = normalise_dtype(match["dtype"])
        if dtype in BYTES_PER_ELEMENT:
            found.append(_strided(dtype, match["strides"]))
    return tuple(found)


def _strided(dtype: str, text: str) -> Strided:
    strides: list[int] = []
    vector = 1
    for item in filter(None, text.split(",")):
        size, _, width = item.partition(":")
        strides.append(int(size or 1))
        if width:
            vector = int(width)
    if len(strides) < 3:
        sizes = tuple(a // max(b, 1) for a, b in itertools.pairwise(strides))
        return Strided(Format(dtype, "linear"), (*sizes, strides[-1]) if strides else ())
    last = strides[1] == 1 and not all(s == 1 for s in strides[2:])
    prefix = "hwc" if last else ("chw" if vector > 1 else "linear")
    layout = prefix + (str(vector) if vector > 1 else "")
    if last:
        blocks = strides[-1]
        spatial = [a // max(b, 1) for a, b in zip([strides[0], *strides[2:]], strides[2:], strict=False)]
        return Strided(Format(dtype, layout), (blocks * vector, *spatial))
    # A stride of 1 outside of larger ones is of a tensor of one vector of channels.
    outer = [max(a // max(b, 1), 1) for a, b in itertools.pairwise(strides)]
    return Strided(Format(dtype, layout), (outer[0] * vector, *outer[1:]))
