"""CUDA C compiled for the card at hand by NVRTC. It comes with torch's CUDA wheels, as do its bindings (cuda-bindings,
of cuda-python); nothing else needs to be installed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

ELEMENTS = Path(__file__).with_name("elements.cu")  # stands before sources that say so
_DTYPES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


def compiled(
    sources: Sequence[Path], names: Sequence[str], device: int, defines: Mapping[str, int] | None = None, *,
    dtypes: Sequence[torch.dtype] = tuple(_DTYPES),
) -> dict[tuple[str, torch.dtype], Any] | None:  # fmt: skip
    """Kernels `name_dtype` of `sources`, one behind the other, for each of `names` and `dtypes` (of float32, float16
    and bfloat16), for card `device`; None where NVRTC or its bindings are missing, or fail."""
    try:
        from cuda.bindings import driver, nvrtc
    except ImportError:
        return None
    major, minor = torch.cuda.get_device_capability(device)
    status, program = nvrtc.nvrtcCreateProgram(
        b"".join(source.read_bytes() for source in sources), sources[-1].name.encode(), 0, [], []
    )
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
    with torch.cuda.device(device):  # a module belongs to the context that is current, and that is a card's own
        torch.zeros(1, device=f"cuda:{device}")
        status, module = driver.cuModuleLoadData(image)
    if int(status) != 0:
        return None
    functions = {}
    for name in names:
        for dtype in dtypes:
            status, functions[name, dtype] = driver.cuModuleGetFunction(module, f"{name}_{_DTYPES[dtype]}".encode())
            if int(status) != 0:
                return None
    return functions
