"""Where and how an engine was built and measured: device, options, figures that trtexec stated."""

from collections.abc import Iterable, Mapping
from typing import Any

from quantbench.inspection.inspection import Inspection
from quantbench.records.evaluation import Measured, NotMeasurable
from quantbench.records.run import PtqRun, QatRun

_DEVICE = ("Selected Device", "Compute Capability", "SMs", "Device Global Memory")
# Metadata section -> heading.
_SECTIONS = {"device_information": "device", "model_options": "build", "build_options": "build",
             "inference_options": "measured", "performance_summary": "measured"}  # fmt: skip
_SILENT = ("", "Disabled", "model", "None")
_MEASURED = ("Input inference shape", "Input inference shapes", "Batch", "Iterations", "Duration", "Streams",
             "CUDA Graph", "Data transfers")  # fmt: skip
# trtexec's lists hold these; 8.4 and older have no more than five.
_FIGURES = ("min", "max", "mean", "median", "p99")

Group = dict[str, str]


def circumstances(inspection: Inspection) -> dict[str, Group]:
    """Heading ("device", "build", "measured") to what is known; options that were left off are left out."""
    found: dict[str, Group] = {"device": {}, "build": {}, "measured": {}}
    if inspection.log is not None:
        if inspection.log.command:
            found["build"]["command"] = inspection.log.command
        _sort(inspection.log.options.items(), found)
    for section, values in inspection.metadata.items():
        if section in _SECTIONS:
            _take(values, found[_SECTIONS[section]])
    if inspection.build is not None:
        _take(inspection.build.summary, found["measured"])
    if inspection.run is not None:
        found["run"] = _run(inspection.run)
    return {heading: values for heading, values in found.items() if values}


def _run(run: PtqRun | QatRun) -> Group:
    """How the run that the engine is of was made, and what came of it."""
    compiled = run.measured_by("compile")
    weighted, quantized = (
        (run.placement.weighted, run.placement.quantized)
        if isinstance(run, PtqRun)
        else (run.exported.weighted, run.exported.quantized)
    )
    sqnr = run.evaluation.outputs.sqnr_db if isinstance(run, PtqRun) else run.against_float.sqnr_db
    return {
        "command": run.provenance.command,
        "model": f"{run.model.name}, sha256 {run.model.sha256[:16]}",
        "calibration": f"{run.calibration.method}, {run.data.images} images" if run.calibration else "none",
        "weighted layers with Q/DQ": f"{len(quantized)} of {len(weighted)}",
        "SQNR against FP32": _decibel(sqnr),
        "built": f"{compiled.time}, {compiled.machine.processor}, quantbench {compiled.versions['quantbench']}",
    }


def _decibel(sqnr: Measured | NotMeasurable | None) -> str:
    if isinstance(sqnr, Measured):
        return f"{sqnr.value:.1f} dB"
    return sqnr.reason if sqnr is not None else "equal to the last bit"


def one_line(inspection: Inspection) -> str:
    """Device and precision in a few words, "" where nothing is known."""
    found = circumstances(inspection)
    device, build = found.get("device", {}), found.get("build", {})
    name, capability = device.get("Selected Device", ""), device.get("Compute Capability", "")
    parts = [f"{name}{f' (compute capability {capability})' if capability else ''}"] if name else []
    # Of an engine that was only loaded, trtexec prints the precision that it would have built with.
    if "Precision" in build and not _only_loaded(inspection):
        parts.append(f"precision {build['Precision']}")
    if "Throughput" in found.get("measured", {}):
        parts.append(f"throughput {found['measured']['Throughput'].removesuffix(' qps')} a second")
    return ", ".join(parts)


def _only_loaded(inspection: Inspection) -> bool:
    if inspection.log is None:
        return False
    options = inspection.log.options
    return "--loadEngine" in inspection.log.command or (bool(options.get("Load engine")) and not options.get("Model"))


def _sort(options: Iterable[tuple[str, str]], found: dict[str, Group]) -> None:
    """trtexec's report mixes the sections; their keys tell them apart."""
    for key, value in options:
        heading = "device" if key in _DEVICE else "measured" if key in _MEASURED else "build"
        if key in _DEVICE or key in _MEASURED or key in ("Model", "Precision", "Memory Pools", "Sparsity", "DLACore"):
            _take({key: value}, found[heading])


def _take(values: Mapping[str, Any], into: Group) -> None:
    for key, value in values.items():
        text = _text(value)
        if text not in _SILENT:
            into.setdefault(str(key), f"{text}.0" if key == "Compute Capability" and text.isdecimal() else text)


def _text(value: Any) -> str:
    if isinstance(value, list) and len(value) == len(_FIGURES):
        return ", ".join(f"{name} {_text(item)}" for name, item in zip(_FIGURES, value, strict=True))
    if isinstance(value, list):
        return ".".join(_text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value).strip()
