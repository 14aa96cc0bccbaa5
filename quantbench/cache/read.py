"""Read a calibration file of any dialect: look at the bytes, name the dialect, parse."""

from pathlib import Path

from quantbench import limits
from quantbench.cache import (
    aimet,
    decimal_text,
    headerless,
    legacy,
    modelopt,
    onnxruntime_flatbuffers,
    onnxruntime_json,
    onnxruntime_text,
    quantbench_json,
    safetensors_file,
    tensorrt,
    torch_zip,
)
from quantbench.cache.model import CalibrationCache
from quantbench.errors import QuantbenchError
from quantbench.quoted import unquoted
from quantbench.text_file import parse_json

DIALECTS = (
    tensorrt.DIALECT,
    legacy.DIALECT,
    headerless.DIALECT,
    decimal_text.DIALECT,
    onnxruntime_text.DIALECT,
    onnxruntime_json.DIALECT,
    onnxruntime_flatbuffers.DIALECT,
    aimet.DIALECT,
    modelopt.DIALECT,
    quantbench_json.DIALECT,
)


def read_cache(path: Path, *, values: str | None = None) -> CalibrationCache:
    """Read `path`. `values` says what decimals without units mean (see `decimal_text`).

    Raises QuantbenchError, naming the file, where it does not exist, is empty, or is of no known dialect.
    """
    try:
        limits.regular_file(path, limits.CACHE_BYTES)
        data = path.read_bytes()
    except OSError as error:
        raise QuantbenchError(f"cannot read {path}: {error.strerror or error}") from error
    if path.suffix.lower() == ".onnx":
        raise QuantbenchError(
            f"{path} is a model, no calibration cache; where a command takes both, the cache comes first"
        )
    if torch_zip.is_archive(data):
        return modelopt.parse_archive(path)
    try:
        return parse_bytes(data, values=values)
    except QuantbenchError as error:
        raise QuantbenchError(f"{path}: {error}") from error


def parse_bytes(data: bytes, *, values: str | None = None) -> CalibrationCache:
    """Read a calibration file that is no torch archive from its bytes."""
    if not data.strip():
        raise QuantbenchError("the file is empty; calibrate again, or take a backup")
    if safetensors_file.is_safetensors(data):
        return modelopt.parse_safetensors(data, "the file")
    text = decode(data)
    if text.lstrip()[:1] in (">", "`", "~"):
        text = unquoted(text)
    if b"\0" in data and not tensorrt.is_header(text.partition("\n")[0]) and text.lstrip()[:1] != "{":
        return onnxruntime_flatbuffers.parse(data)
    if text.lstrip()[:1] in ("{", "["):
        return _parse_json(text)
    return _parse_text(text, values)


def decode(data: bytes) -> str:
    """Bytes as text in which every byte survives (`encode` is the inverse): names in caches need not be UTF-8."""
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """Inverse of `decode`."""
    return text.encode("utf-8", "surrogateescape")


def _parse_text(text: str, values: str | None) -> CalibrationCache:
    lines = text.split("\n")
    body = [line for line in lines if line.strip()]
    if tensorrt.is_header(lines[0]):
        # One decimal point among hexadecimal values is a broken line, to be named; decimals throughout a dialect.
        if len(body) > 1 and all(decimal_text.is_line(line) for line in body[1:]) and not headerless.is_line(body[1]):
            return decimal_text.parse(text, values)
        return tensorrt.parse(text)
    if legacy.is_header(lines[0]):
        return legacy.parse(text)
    if all(headerless.is_line(line) for line in body):
        return headerless.parse(text)
    if all(decimal_text.is_line(line) for line in body):
        return decimal_text.parse(text, values)
    if all(onnxruntime_text.is_line(line) for line in body):
        return onnxruntime_text.parse(text)
    raise QuantbenchError(
        f"no calibration file that we know; it begins {lines[0][:60]!r}; known: {', '.join(DIALECTS)}"
    )


def _parse_json(text: str) -> CalibrationCache:
    data = parse_json(text, "the file")
    if isinstance(data, dict):
        if quantbench_json.matches(data):
            return quantbench_json.parse(data)
        if aimet.matches(data):
            return aimet.parse(data)
        if onnxruntime_json.matches(data):
            return onnxruntime_json.parse(data)
    raise QuantbenchError(f"JSON of no calibration file that we know; known: {', '.join(DIALECTS)}")
