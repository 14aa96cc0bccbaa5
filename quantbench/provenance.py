"""Where a result comes from: versions, machine, command line. Every run.json and report carries it."""

import datetime
import importlib.metadata
import platform
import shlex
import sys
from typing import Any

import quantbench

_PACKAGES = ("numpy", "onnx", "onnx-graphsurgeon", "onnxruntime", "tensorrt-rtx", "tensorrt", "torch", "pillow")


def provenance(seed: int) -> dict[str, Any]:
    """Plain data: versions of quantbench and of what it computes with, machine, time (UTC), command line, seed."""
    versions = {"quantbench": quantbench.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "command": shlex.join(["quantbench", *sys.argv[1:]]),
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "seed": seed,
        "versions": versions,
        "machine": {"system": platform.platform(), "processor": _processor(), "cores": _cores()},
    }


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
