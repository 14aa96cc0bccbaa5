"""Leave the layers of a build beside its engine, where `quantbench inspect` finds them."""

from pathlib import Path

from quantbench.atomic import write_json
from quantbench.engines.base import BuildResult
from quantbench.inspection.logs.layer_line import read_rtx_layers


def write_layers(result: BuildResult, path: Path) -> str | None:
    """Write the layers that the verbose log lists as JSON; returns the path, None where the log lists none."""
    layers = read_rtx_layers(result.log_lines()) if result.log or _has_log(result) else ()
    if not layers:
        return None
    facts = {"backend": result.backend, "version": result.version, "targets": list(result.targets)}
    write_json(path, {**facts, "layers": [layer.to_json() for layer in layers]})
    return str(path)


def _has_log(result: BuildResult) -> bool:
    return result.log_file is not None and result.log_file.is_file()
