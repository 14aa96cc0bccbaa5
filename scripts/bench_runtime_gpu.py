"""quantbench's GPU runtime on a real GPU: buffers, session, CUDA graphs, streams, statistics, profile, leaks.

    python scripts/bench_runtime_gpu.py OUT [--parts buffers session …] [--device torch cuda]

Needs an NVIDIA GPU, torch with CUDA and torchvision; for `--device cuda` also cuda-python. TensorRT is not needed: an
engine of scripts/torch_engine.py stands in for it, ResNet-18 in FP16 on torch's kernels, so the figures say how the
runtime works and not how fast TensorRT is. Writes OUT/runtime-<device>.json and
OUT/commands.json; docs/measured/runtime holds those of an H200.
"""

import argparse
import contextlib
import io
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from quantbench.cli import main as command
from quantbench.engines import device_cuda, device_torch
from quantbench.engines.device import Device
from quantbench.engines.gpus import find_driver
from quantbench.errors import QuantbenchError
from scripts import runtime_checks, runtime_times, torch_engine

PARTS: dict[str, Callable[[Device], Any]] = {
    "buffers": runtime_checks.buffers,
    "session": runtime_checks.session,
    "benches": runtime_times.benches,
    "clocks": runtime_times.clocks,
    "order": runtime_checks.order,
    "leaks": runtime_checks.leaks,
    "calibrator": runtime_checks.calibrator,
}


def environment() -> dict[str, Any]:
    """Versions and the GPU."""
    driver = find_driver()
    runtime = device_cuda.load_runtime()
    return {
        "gpu": [gpu.name for gpu in driver.gpus], "driver": driver.version, "torch": torch.__version__,
        "cuda": torch.version.cuda, "cuda_bindings": getattr(sys.modules.get("cuda.bindings"), "__version__", ""),
        "cuda_runtime": runtime.cudaRuntimeGetVersion()[1] if runtime else None, "python": sys.version.split()[0],
        "date": time.strftime("%Y-%m-%d"), "command": " ".join(["python", *sys.argv]),
    }  # fmt: skip


def commands(folder: Path) -> list[dict[str, Any]]:
    """`quantbench bench` on an engine file, with the stand-in as `tensorrt`."""
    doctor = {"command": "quantbench doctor", **_say("doctor")}
    sys.modules["tensorrt"] = torch_engine
    engine, times = folder / "resnet18.engine", folder / "profile.json"
    engine.write_bytes(torch_engine.engine())
    lines = [
        f"bench {engine} --seconds 1",
        f"bench {engine} --seconds 1 --shapes image=64x3x224x224 --streams 2 --cuda-graph --profile {times}",
        f"bench {engine} --seconds 1 --no-transfers --json",
        f"bench {engine} --shapes image=65x3x224x224",
        f"bench {engine} --shapes pixels=1x3x224x224",
        f"bench {engine} --shapes image=1x3x224",
        f"bench {engine} --threads 4",
    ]
    return [doctor, *({"command": f"quantbench {line}".replace(f"{folder}/", ""), **_say(line)} for line in lines)]


def _say(line: str) -> dict[str, Any]:
    sys.argv = ["quantbench", *line.split()]
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command.app()
        except QuantbenchError as error:
            code = f"QuantbenchError: {error}"
        except SystemExit as stop:
            code = stop.code
    return {"exit": code, "says": (out.getvalue() + err.getvalue()).splitlines()}


def measure(name: str, parts: list[str]) -> dict[str, Any]:
    """All `parts` on the device `name`; a part that breaks leaves its traceback."""
    device = (device_torch if name == "torch" else device_cuda).open_device()
    if device is None:
        return {"error": f"no {name} device here"}
    found: dict[str, Any] = {"device": device.name}
    for part in parts:
        start = time.monotonic()
        try:
            found[part] = PARTS[part](device)
        except (QuantbenchError, RuntimeError, ValueError, TypeError, AttributeError, AssertionError):
            found[part] = {"broke": traceback.format_exc().splitlines()}
            print(f"{name}: {part} broke:\n{traceback.format_exc()}", flush=True)
        print(f"{name}: {part} took {time.monotonic() - start:.1f} s", flush=True)
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("out", type=Path)
    parser.add_argument("--parts", nargs="+", default=[*PARTS, "commands"], choices=[*PARTS, "commands"])
    parser.add_argument("--device", nargs="+", default=["torch", "cuda"], choices=["torch", "cuda"])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    facts = environment()
    print(json.dumps(facts))
    for name in arguments.device:
        found = {**facts, **measure(name, [part for part in arguments.parts if part != "commands"])}
        (arguments.out / f"runtime-{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    if "commands" in arguments.parts:
        command.register_commands()
        said = commands(arguments.out)
        (arguments.out / "commands.json").write_text(json.dumps({**facts, "commands": said}, indent=1) + "\n")
        for one in said:
            print(f"$ {one['command']}", *one["says"], one["exit"], sep="\n")


if __name__ == "__main__":
    main()
