"""What a file is, told by its content."""

import codecs
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantbench.errors import QuantbenchError
from quantbench.inspection.embedded import embedded
from quantbench.inspection.logs.prefix import split_prefix
from quantbench.inspection.nsys.sqlite import MAGIC
from quantbench.inspection.nsys.tables import is_nsys
from quantbench.inspection.open_file import bare_name, read_bytes
from quantbench.inspection.open_file import head as read_head
from quantbench.quoted import unquoted

# kind -> what the user is told.
KINDS: dict[str, str] = {
    "log": "TensorRT build log",
    "layer-info": "layer information (JSON)",
    "own-layers": "quantbench layers.json",
    "profile": "per-layer profile (JSON)",
    "latency-lists": "per-layer latencies of Torch-TensorRT (JSON)",
    "timing": "inference times (JSON)",
    "nsys": "kernels that Nsight Systems saw",
    "metadata": "build, profile or device metadata (JSON)",
    "run-record": "quantbench run.json",
    "ranges": "quantbench ranges.json",
    "inspection": "quantbench inspect.json",
    "onnx": "ONNX model",
    "engine": "TensorRT engine",
    "calibration-cache": "calibration cache",
    "run-folder": "quantbench run folder",
}
_HEAD = 4096
# TensorRT-RTX 1.7 writes "vtrt" (read off a build), TensorRT 8.6 and newer "ftrt"; others are told by their suffix.
_ENGINE_MAGIC = (b"vtrt", b"ftrt")


@dataclass(frozen=True, slots=True)
class Found:
    """What a path is; `data` holds the parsed JSON where it is JSON."""

    path: Path
    kind: str
    data: Any = None

    @property
    def text(self) -> str:
        """The kind in words."""
        return KINDS[self.kind]


def detect(path: Path) -> Found:
    """Tell what `path` is. Raises QuantbenchError where it is missing, unreadable, empty or of no known kind."""
    if path.is_dir():
        if any((path / name).exists() for name in ("run.json", "layers.json", "build.log", "model.qdq.onnx")):
            return Found(path, "run-folder")
        raise QuantbenchError(f"{path} is a folder without run.json, layers.json or build.log; name a run or a file")
    if path.is_fifo():
        raise QuantbenchError(f"{path} is a pipe, which can be read only once; write it to a file and name that")
    head = read_head(path, _HEAD)
    if not head.strip():
        raise QuantbenchError(f"{path} is empty; nothing to inspect")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return Found(path, "log")
    stripped = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if stripped[:1] in (b"{", b"[") and not _is_log(stripped):
        return _json(path)
    if head.startswith(MAGIC) or is_nsys(head.decode("utf-8", "replace")):
        return Found(path, "nsys")
    suffix = Path(bare_name(path)).suffix.lower()
    if head.startswith(_ENGINE_MAGIC) or suffix in (".engine", ".plan", ".trt", ".rtx"):
        return Found(path, "engine")
    if suffix == ".onnx" or _is_onnx(head):
        return Found(path, "onnx")
    if b"\0" in head:
        raise QuantbenchError(
            f"{path} is binary and neither ONNX nor an engine that begins as engines do; rename an engine to .engine"
        )
    if _is_cache(stripped) or _is_cache(unquoted(stripped.decode("utf-8", "replace")).lstrip().encode()):
        return Found(path, "calibration-cache")
    return Found(path, "log")


def _is_log(head: bytes) -> bool:
    """A log may begin with `[01/10/2024-…]`, `[V]`, `[TensorRT]` or `[[`-doubled dates."""
    first = head.split(b"\n", 1)[0].decode("utf-8", "replace")
    return split_prefix(first).level != "" or first.startswith(("[TensorRT", "[TRT"))


def _is_cache(head: bytes) -> bool:
    """`TRT-8601-EntropyCalibration2`, or lines `name: 3d97aca7` from the second line on."""
    if head.startswith(b"TRT-") and b"alibration" in head[:200]:
        return True
    lines = [line for line in head.split(b"\n")[1:6] if line.strip()]
    return bool(lines) and all(re.fullmatch(rb".+: [0-9a-fA-F]{1,8}\r?", line) for line in lines[:-1] or lines)


def _is_onnx(head: bytes) -> bool:
    """A ModelProto begins with field 1 (ir_version, varint) and soon names its producer or graph."""
    return head[:1] == b"\x08" and len(head) > 2 and 0 < head[1] < 64 and head[2:3] in (b"\x12", b":", b"B", b"\x1a")


def _json(path: Path) -> Found:
    try:
        # TensorRT 8.6 writes U+001E and U+001F into its JSON as they are.
        data = json.loads(read_bytes(path), strict=False)
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        if embedded(read_bytes(path).decode("utf-8", "replace")):
            return Found(path, "log")
        raise QuantbenchError(f"{path} begins like JSON but is not ({error}); export it again") from error
    return Found(path, _json_kind(data, path), data)


def _json_kind(data: Any, path: Path) -> str:
    if isinstance(data, list):
        return _list_kind(data, path)
    if isinstance(data.get("Layers"), list):
        return "layer-info"
    formats = {"quantbench-ranges": "ranges", "quantbench-inspect": "inspection", "quantbench-run": "run-record"}
    for start, kind in formats.items():
        if str(data.get("format", "")).startswith(start):
            return kind
    if isinstance(data.get("layers"), list):
        return "own-layers"
    if any(isinstance(data.get(k), Mapping) for k in ("build_options", "performance_summary", "device_information")):
        return "metadata"
    if data and all(isinstance(v, list) and v and isinstance(v[0], (int, float)) for v in data.values()):
        return "latency-lists"
    if "versions" in data or "provenance" in data or "command" in data:
        return "run-record"
    raise QuantbenchError(f"{path} is JSON of no kind that inspect knows: its keys are {', '.join(list(data)[:6])}")


def _list_kind(data: list[Any], path: Path) -> str:
    entries = [e for e in data[:3] if isinstance(e, Mapping)]
    if any("averageMs" in e or ("name" in e and "timeMs" in e) for e in entries):
        return "profile"
    if any("latencyMs" in e or "computeMs" in e for e in entries):
        return "timing"
    if entries and all("type" in e and "inputs" in e and "name" in e for e in entries):
        return "own-layers"
    if any("ComputeCapability" in e or "COMPUTE_CAPABILITY_MAJOR" in e for e in entries):
        return "metadata"
    if data == [] or (len(data) == 1 and isinstance(data[0], Mapping) and "count" in data[0]):
        return "profile"
    raise QuantbenchError(f"{path} is a JSON list of no kind that inspect knows; name a layer-info or profile JSON")
