"""Which backends this machine has, what each can do, and how to get the missing ones. Never raises, never slow."""

import importlib.metadata
import importlib.util
import os
import platform
import sys
from pathlib import Path

from quantbench.engines.base import Availability
from quantbench.engines.facts import FACTS, ONNXRUNTIME, TENSORRT10, TENSORRT11, TENSORRT_RTX

_TENSORRT_WHEELS = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11")
_TORCH = "pip install 'quantbench[qat]' (torch's CPU wheel: --index-url https://download.pytorch.org/whl/cpu)"
_CUDA = "install NVIDIA's driver; then pip install cuda-python, or a torch with CUDA"


def discover() -> tuple[Availability, ...]:
    """Every backend, found by its files and package metadata alone: importing them would take seconds."""
    gpu = gpu_present()
    return (
        _onnxruntime(),
        _tensorrt(TENSORRT10, gpu),
        _tensorrt(TENSORRT11, gpu),
        _tensorrt_rtx(gpu),
        _torch(),
        _cuda(gpu),
    )


def gpu_present() -> bool:
    """Whether the system shows an NVIDIA GPU: the driver's device files (WSL: its pseudo device)."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    shown = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()
    return shown and hidden not in ("", "-1")


def tensorrt_version() -> str:
    """Version of the installed `tensorrt` package, "" where there is none, "unknown" where it does not say."""
    return (_version(*_TENSORRT_WHEELS) or "unknown") if _has("tensorrt") else ""


def _onnxruntime() -> Availability:
    version = _version("onnxruntime", "onnxruntime-gpu") if _has("onnxruntime") else ""
    can = ("build", "run", "calibrate") if version else ()
    return Availability(ONNXRUNTIME, bool(version), version, can, "CPU", FACTS[ONNXRUNTIME].install)


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


def _tensorrt_rtx(gpu: bool) -> Availability:
    facts = FACTS[TENSORRT_RTX]
    version = _version("tensorrt-rtx", "tensorrt_rtx_cu13", "tensorrt_rtx_cu12") if _has("tensorrt_rtx") else ""
    if not version:
        fitting = sys.platform in ("linux", "win32") and platform.machine().lower() in ("x86_64", "amd64")
        detail = "not installed" if fitting else f"no wheel for {sys.platform} on {platform.machine()}"
        return Availability(TENSORRT_RTX, False, "", (), detail, facts.install)
    can = ("build", "run", "inspect") if gpu else ("build", "inspect")
    return Availability(TENSORRT_RTX, True, version, can, "" if gpu else "ahead-of-time builds only", facts.install)


def _torch() -> Availability:
    version = _version("torch") if _has("torch") else ""
    detail = "" if not version else "CPU only" if "+cpu" in version else "with CUDA where a GPU is"
    return Availability("torch", bool(version), version, ("train",) if version else (), detail, _TORCH)


def _cuda(gpu: bool) -> Availability:
    version = _driver_version()
    library = _version("cuda-python", "cuda-bindings")
    detail = f"cuda-python {library}" if library else "no cuda-python"
    return Availability("cuda", gpu, version, ("run",) if gpu else (), detail if gpu else "no NVIDIA GPU", _CUDA)


def _driver_version() -> str:
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    words = text.partition("\n")[0].split()
    return next((f"driver {word}" for word in words if word[:1].isdigit() and "." in word), "")


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
