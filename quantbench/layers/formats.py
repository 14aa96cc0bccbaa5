"""Wordings for data types and tensor formats, from TensorRT 7 to 11 and TensorRT-RTX, as (dtype, format, vector).

Sources: the names of `nvinfer1::TensorFormat` in NVIDIA's developer guide, "I/O Formats", and the texts that the
engine inspector and the builder log print for them.
"""

import re

UNKNOWN = "?"

_DTYPES: dict[str, str] = {
    "float": "FP32", "fp32": "FP32", "float32": "FP32", "tf32": "FP32",
    "double": "FP64", "fp64": "FP64", "float64": "FP64",
    "half": "FP16", "fp16": "FP16", "float16": "FP16",
    "bf16": "BF16", "bfloat16": "BF16", "bfloat": "BF16",
    "int8": "INT8", "uint8": "UINT8", "int32": "INT32", "int64": "INT64", "int4": "INT4",
    "bool": "BOOL", "boolean": "BOOL",
    "fp8": "FP8", "float8": "FP8", "e4m3": "FP8", "e5m2": "FP8", "fp8e4m3": "FP8", "fp8e5m2": "FP8", "e8m0": "FP8",
    "fp4": "FP4", "fp4e2m1": "FP4", "e2m1": "FP4", "float4": "FP4",
}  # fmt: skip

_VECTOR_WORDS = {"two": 2, "four": 4, "eight": 8, "sixteen": 16, "thirty-two": 32}
_VECTORIZED = re.compile(r"\b(two|four|eight|sixteen|thirty-two) wide channel vectorized", re.IGNORECASE)
_CHANNEL_MODULO = re.compile(r"channel % (\d{1,9}) == 0")
_SHORT_NAME = re.compile(r"\(k?(LINEAR|CHW2|CHW4|CHW16|CHW32|HWC|HWC4|HWC8|HWC16|DHWC|DHWC8|CDHW32|DLA_\w+)\)")
_WORD = re.compile(r"[A-Za-z]\w*")


def normalise_dtype(word: str) -> str:
    """The key of `BYTES_PER_ELEMENT` that `word` ("Float", "Half", "Int8", "e4m3" …) means, else "?"."""
    return _DTYPES.get(word.strip().strip(".").lower(), UNKNOWN)


def parse_format(text: str) -> tuple[str, str, int]:
    """(dtype, format, vector width) of a `Format/Datatype` text.

    "Thirty-two wide channel vectorized row major Int8 format" is ("INT8", "CHW32", 32); a bare "Half" is
    ("FP16", "", 1). What is not understood stays "?" and "", never an error.
    """
    text = text.strip().rstrip(".").strip()
    dtype = next((d for d in map(normalise_dtype, _WORD.findall(text)) if d != UNKNOWN), UNKNOWN)
    short, vector = format_name(text)
    return dtype, short, vector


def format_name(text: str) -> tuple[str, int]:
    """(short format name, vector width) of a format's wording; ("", 1) where the wording names none."""
    explicit = _SHORT_NAME.search(text)
    if explicit:
        name = explicit.group(1)
        digits = re.search(r"(\d{1,9})$", name)
        vector = int(digits.group(1)) if digits else 1
        return ("kLINEAR" if name == "LINEAR" else name), vector
    lowered = text.lower()
    three = "3 spatial dimensions" in lowered
    vectorized = _VECTORIZED.search(text)
    if vectorized:
        width = _VECTOR_WORDS[vectorized.group(1).lower()]
        return f"{'CDHW' if three else 'CHW'}{width}", width
    if "column stride % 32" in lowered:
        # DLA's own layouts: https://docs.nvidia.com/deeplearning/tensorrt, "I/O Formats on DLA".
        return ("DLA_HWC4", 4) if "channel major" in lowered else ("DLA_LINEAR", 1)
    if "(nhwc)" in lowered:
        return "NHWC", 1
    if "(transposed)" in lowered:
        return "TRANSPOSED", 1
    if "channel major" in lowered:
        modulo = _CHANNEL_MODULO.search(lowered)
        prefix = "DHWC" if three else "HWC"
        return (f"{prefix}{modulo.group(1)}", int(modulo.group(1))) if modulo else (prefix, 1)
    if "row major" in lowered or "linear" in lowered:
        return "kLINEAR", 1
    return "", 1


def vector_format(dtype: str, vector: int) -> str:
    """Short name for a channel vector width in `Int8[1,64:32,56,56]`, where the log says no more than the width.

    Width 1 may be linear or channel-last, so it has no name here; 16 may be CHW16 or HWC16 (FP16 only).
    """
    if vector == 1:
        return ""
    if vector == 8 or (vector == 16 and dtype == "FP16"):
        return f"HWC{vector}"
    return f"CHW{vector}"
