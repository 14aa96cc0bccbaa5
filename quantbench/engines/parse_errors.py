"""Turn what an ONNX parser complains of into one line that names the node and its operator."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quantbench.errors import QuantbenchError


def parser_error(model: Path, title: str, parser: Any, logged: Sequence[str]) -> QuantbenchError:
    """Make the error of a failed parse from `parser.get_error(i)` (nvonnxparser's ParserError), else from the log."""
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    for error in errors:
        name, operator = _node(model, error)
        if name or operator:
            where = f"node {name or '#' + str(error.node())} ({operator or 'unknown operator'})"
            return QuantbenchError(f"{title} cannot build {model}: {where}: {_reason(error)}")
    said = [error.desc() for error in errors] or list(logged)
    return QuantbenchError(f"{title} cannot read {model}: {_one_line(said[0] if said else 'no reason given')}")


def build_error(model: Path, title: str, logged: Sequence[str], log_file: Path | None) -> QuantbenchError:
    """Make the error of a failed build from the first error line logged."""
    reason = _one_line(logged[0]) if logged else "no reason given"
    return QuantbenchError(f"{title} cannot build {model}: {reason}{whole_log(log_file) if log_file else ''}")


def whole_log(log_file: Path) -> str:
    """The end of an error whose log is kept."""
    return f"; the whole log is in {log_file}"


def _node(model: Path, error: Any) -> tuple[str, str]:
    """Name and operator of the node at fault, "" where the parser does not know."""
    if hasattr(error, "node_operator"):
        return error.node_name(), error.node_operator()
    # TensorRT 8 gives the node's number alone.
    import onnx
    from google.protobuf.message import DecodeError

    try:
        nodes = onnx.load(str(model), load_external_data=False).graph.node
    except (OSError, DecodeError):
        return "", ""
    index = error.node()
    return (nodes[index].name, nodes[index].op_type) if 0 <= index < len(nodes) else ("", "")


def _reason(error: Any) -> str:
    """What the parser says; often that is the bare condition that did not hold ("false"), and its code says more."""
    said = _one_line(error.desc())
    if "Plugin not found" in said:
        return "no plugin of that name is loaded (--plugin LIB.so loads a library of them)"
    code = str(error.code()).rpartition(".")[2].lower().replace("_", " ")
    return code if said in ("", "false") else said


def _one_line(text: str, limit: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
