"""CUDA C compiled for the card at hand by NVRTC. It comes with torch's CUDA wheels, as do its bindings (cuda-bindings,
of cuda-python); nothing else needs to be installed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

_DTYPES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


def compiled(
    source: Path, names: Sequence[str], device: int, defines: Mapping[str, int] | None = None
) -> dict[tuple[str, torch.dtype], Any] | None:
    """Kernels `name_dtype` of `source`, for each of `names` and float32, float16 and bfloat16, for card `device`;
    None where NVRTC or its bindings are missing, or fail."""
    try:
        from cuda.bindings import driver, nvrtc
    except ImportError:
        return None
    torch.zeros(1, device=f"cuda:{device}")  # makes torch's context current, which the module is loaded into
    major, minor = torch.cuda.get_device_capability(device)
    status, program = nvrtc.nvrtcCreateProgram(source.read_bytes(), source.name.encode(), 0, [], [])
    if int(status) != 0:
        return None
    options = [f"--gpu-architecture=sm_{major}{minor}", "--std=c++17"]
    options += [f"-D{name}={value}" for name, value in (defines or {}).items()]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    if int(status) != 0:
        return None
    _, size = nvrtc.nvrtcGetCUBINSize(program)
    image = b" " * size
    nvrtc.nvrtcGetCUBIN(program, image)
    status, module = driver.cuModuleLoadData(image)
    if int(status) != 0:
        return None
    functions = {}
    for name in names:
        for dtype, suffix in _DTYPES.items():
            status, functions[name, dtype] = driver.cuModuleGetFunction(module, f"{name}_{suffix}".encode())
            if int(status) != 0:
                return None
    return functions
