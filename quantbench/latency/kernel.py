"""What a kernel's name tells: its tile, and the arithmetic that it does.

Three generations of names: `…_tilesize128x64x32_stage5_…_tensor16x8x8`, `ampere_scudnn_128x64_relu_…_nn_v1`,
`trt_ampere_h16816gemm_64x128_ldg8_…`; Winograd kernels (`wngd`) have a tile of another meaning.
"""

import re
from functools import lru_cache
from typing import NamedTuple

_TILESIZE = re.compile(r"tile(?:size)?_?(\d{1,9})x(\d{1,9})(?:x\d+)?")
_CUDNN = re.compile(r"(?:^|_)(\d{2,3})x(\d{2,3})(?:x\d+)?(?:_|$)")
_WINOGRAD = ("wngd", "winograd")


class Kernel(NamedTuple):
    """`tile` is (rows of M, columns of N) or None; `math` FP32, TF32, FP16, INT8, DP4A or "" where unknown."""

    tile: tuple[int, int] | None
    math: str
    winograd: bool


@lru_cache(maxsize=8192)
def kernel_of(name: str) -> Kernel:
    """Parts of a kernel's name; all unknown for names that tell nothing."""
    lowered = name.lower()
    winograd = any(word in lowered for word in _WINOGRAD)
    found = None if winograd else (_TILESIZE.search(lowered) or _CUDNN.search(lowered))
    tile = (int(found.group(1)), int(found.group(2))) if found else None
    return Kernel(tile, _math(lowered), winograd)


def _math(name: str) -> str:
    if "int8x4" in name or "dp4a" in name:
        return "DP4A"
    if re.search(r"i8i32|imma|int8x32|_i8|i16832|i8816", name):
        return "INT8" if "dp4a" not in name and "idp" not in name else "DP4A"
    if "tf32" in name:
        return "TF32"
    if re.search(r"ffma|scudnn|sgemm|f32f32_f32f32|fp32", name):
        return "FP32"
    if re.search(r"f16|fp16|h884|h1688|h16816|hcudnn|hmma|hgemm|fp16", name):
        return "FP16"
    return ""
