"""Turn what an ONNX parser complains of into one line that names the node and its operator."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quantbench.errors import QuantbenchError


def parser_error(model: Path, backend: str, parser: Any, logged: Sequence[str]) -> QuantbenchError:
    """Make the error of a failed parse from `parser.get_error(i)` (nvonnxparser's ParserError), else from the log."""
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        if not error.node_operator() and not error.node_name():
            continue
        where = f"node {error.node_name() or '#' + str(error.node())!s} ({error.node_operator() or 'unknown operator'})"
        return QuantbenchError(f"{backend} cannot build {model}: {where}: {_one_line(error.desc())}")
    said = [parser.get_error(i).desc() for i in range(parser.num_errors)] or list(logged)
    return QuantbenchError(f"{backend} cannot read {model}: {_one_line(said[0] if said else 'no reason given')}")


def build_error(model: Path, backend: str, logged: Sequence[str], log_file: Path | None) -> QuantbenchError:
    """Make the error of a failed build from the first error line logged."""
    tail = f"; the whole log is in {log_file}" if log_file else ""
    return QuantbenchError(f"{backend} cannot build {model}: {_one_line(logged[0] if logged else 'no reason')}{tail}")


def _one_line(text: str, limit: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
