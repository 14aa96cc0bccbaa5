"""Where a result comes from: versions, machine, command line. Every run.json and report carries it."""

import datetime
import functools
import importlib.metadata
import platform
import shlex
import sys
from collections.abc import Mapping

import quantbench
from quantbench.cores import usable_cores
from quantbench.records.facts import Machine, Provenance

_PACKAGES = (
    "numpy", "onnx", "onnx-graphsurgeon", "onnxruntime", "onnxruntime-gpu", "onnxscript", "pillow", "tensorrt-rtx",
    "tensorrt", "torch", "torchvision", "ultralytics",
)  # fmt: skip


def provenance(seconds: float = 0.0, of: Mapping[str, str] | None = None) -> Provenance:
    """Of this process, now; `of` are versions that matter besides those of quantbench and what it computes with."""
    return Provenance(
        command=command_line(),
        time=utc(),
        seconds=round(seconds, 2),
        versions={**versions(), **(of or {})},
        machine=Machine(system=platform.platform(), processor=_processor(), cores=usable_cores()),
    )


def command_line() -> str:
    """The command as it was typed, arguments quoted for a shell."""
    return shlex.join(["quantbench", *sys.argv[1:]])


def utc() -> str:
    """The time now, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def chosen_versions(*packages: str) -> dict[str, str]:
    """Versions of quantbench and of those of `packages` that are installed. Raises ValueError for a package that
    `versions` does not look for: its version would be missing from a key without a word."""
    if unknown := set(packages) - set(_PACKAGES):
        raise ValueError(f"no versions are kept of {', '.join(sorted(unknown))}")
    found = versions()
    return {name: found[name] for name in ("quantbench", *packages) if name in found}


@functools.cache
def versions() -> dict[str, str]:
    """Versions of quantbench, Python and the packages that a result depends on, those that are installed."""
    found = {"quantbench": quantbench.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
