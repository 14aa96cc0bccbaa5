"""Which backends this machine has, what each can do, and how to get the missing ones. Never raises, never slow."""

import importlib.metadata
import importlib.util
import os
import platform
import sys
from pathlib import Path

from quantbench.engines.base import Availability
from quantbench.engines.facts import FACTS, ONNXRUNTIME, RTX_GPUS, TENSORRT10, TENSORRT11, TENSORRT_RTX
from quantbench.engines.gpus import Driver, Gpu, find_driver

_TENSORRT_WHEELS = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11")
_TORCH = "pip install 'quantbench[qat]' (torch's CPU wheel: --index-url https://download.pytorch.org/whl/cpu)"
_CUDA = "install NVIDIA's driver; then pip install cuda-python, or a torch with CUDA"


def discover() -> tuple[Availability, ...]:
    """Every backend, found by its files and package metadata alone: importing them would take seconds."""
    gpu = gpu_present()
    driver = find_driver()
    return (
        _onnxruntime(),
        _tensorrt(TENSORRT10, gpu),
        _tensorrt(TENSORRT11, gpu),
        _tensorrt_rtx(driver.gpus if gpu else ()),
        _torch(),
        _cuda(gpu, driver),
    )


def gpu_present() -> bool:
    """Whether the system shows an NVIDIA GPU: the driver's device files (WSL: its pseudo device)."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    shown = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()
    return shown and hidden not in ("", "-1")


def tensorrt_version() -> str:
    """Version of the installed `tensorrt` package, "" where there is none, "unknown" where it does not say."""
    return (_version(*_TENSORRT_WHEELS) or "unknown") if _has("tensorrt") else ""


def rtx_version() -> str:
    """Version of the installed `tensorrt_rtx`, "" where there is none, "unknown" where it does not say."""
    return _version("tensorrt-rtx", "tensorrt_rtx_cu13", "tensorrt_rtx_cu12") if _has("tensorrt_rtx") else ""


def _onnxruntime() -> Availability:
    plain, with_cuda = (_version(name) if _has("onnxruntime") else "" for name in ("onnxruntime", "onnxruntime-gpu"))
    version = plain or with_cuda
    can = ("build", "run", "calibrate") if version else ()
    detail = "CPU"
    if plain and with_cuda:
        detail = "CPU; onnxruntime and onnxruntime-gpu share a folder, and the one installed last counts: keep one"
    elif with_cuda:
        detail = "CPU; calibrates on a card too (ptq --device cuda)"
    return Availability(ONNXRUNTIME, bool(version), version, can, detail, FACTS[ONNXRUNTIME].install)


def _tensorrt(backend: str, gpu: bool) -> Availability:
    facts = FACTS[backend]
    version = tensorrt_version()
    major = int(version.partition(".")[0]) if version[:1].isdigit() else 0
    fits = bool(version) and (major >= 11 if backend == TENSORRT11 else major <= 10)
    if not fits:
        detail = f"tensorrt {version} is installed, and only one version can be" if version else "not installed"
        return Availability(backend, False, "", (), detail, facts.install)
    if not gpu:
        return Availability(backend, False, version, (), "installed, but there is no NVIDIA GPU", _CUDA)
    can = ("build", "run", "calibrate", "inspect") if facts.has_calibrators else ("build", "run", "inspect")
    return Availability(backend, True, version, can, "", facts.install)


def _tensorrt_rtx(gpus: tuple[Gpu, ...]) -> Availability:
    facts = FACTS[TENSORRT_RTX]
    version = rtx_version()
    if not version:
        fitting = sys.platform in ("linux", "win32") and platform.machine().lower() in ("x86_64", "amd64")
        detail = "not installed" if fitting else f"no wheel for {sys.platform} on {platform.machine()}"
        return Availability(TENSORRT_RTX, False, "", (), detail, facts.install)
    # An engine can be read where it can be loaded, and its layers from its build log anywhere.
    if any(gpu.architecture in RTX_GPUS for gpu in gpus):
        return Availability(TENSORRT_RTX, True, version, ("build", "run", "inspect"), "", facts.install)
    why = "".join(f": it does not run on {gpu.name} ({gpu.architecture})" for gpu in gpus[:1])
    detail = f"ahead-of-time builds only{why}"
    return Availability(TENSORRT_RTX, True, version, ("build", "inspect"), detail, facts.install)


def _torch() -> Availability:
    version = _version("torch") if _has("torch") else ""
    detail = "" if not version else "CPU only" if "+cpu" in version else "with CUDA where a GPU is"
    return Availability("torch", bool(version), version, ("train",) if version else (), detail, _TORCH)


def _cuda(gpu: bool, driver: Driver) -> Availability:
    version = f"driver {driver.version}" if driver.version else ""
    gpus = ", ".join(f"{g.name} ({g.architecture}, {g.memory / 2**30:.0f} GiB)" for g in driver.gpus)
    if not gpu:
        if gpus:
            detail = f"CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES')} hides {gpus}"
            return Availability("cuda", False, version, (), detail, "unset CUDA_VISIBLE_DEVICES")
        return Availability("cuda", False, version, (), "no NVIDIA GPU", _CUDA)
    libraries = [f"cuda-python {v}" for v in [_version("cuda-bindings", "cuda-python")] if v]
    if _has("torch") and "+cpu" not in _version("torch"):
        libraries.insert(0, "torch")
    through = f"through {' or '.join(libraries)}" if libraries else "engines cannot run: pip install cuda-python"
    detail = "; ".join(filter(None, (gpus, through)))
    return Availability("cuda", True, version, ("run",) if libraries else (), detail, _CUDA)


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _version(*packages: str) -> str:
    for package in packages:
        try:
            # Broken metadata has no version, whatever the annotation says.
            return importlib.metadata.version(package) or "unknown"
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""
