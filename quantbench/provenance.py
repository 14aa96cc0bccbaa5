"""Where a result comes from: versions, machine, command line. Every run.json and report carries it."""

import datetime
import importlib.metadata
import platform
import shlex
import sys

import quantbench
from quantbench.records.facts import Machine, Provenance

_PACKAGES = ("numpy", "onnx", "onnx-graphsurgeon", "onnxruntime", "tensorrt-rtx", "tensorrt", "torch", "pillow")


def provenance(seconds: float = 0.0) -> Provenance:
    """Of this process, now: versions of quantbench and of what it computes with, machine, time (UTC), command line."""
    return Provenance(
        command=shlex.join(["quantbench", *sys.argv[1:]]),
        time=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        seconds=round(seconds, 2),
        versions=versions(),
        machine=Machine(system=platform.platform(), processor=_processor(), cores=_cores()),
    )


def versions() -> dict[str, str]:
    """Versions of quantbench, Python and the packages that a result depends on, those that are installed."""
    found = {"quantbench": quantbench.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
