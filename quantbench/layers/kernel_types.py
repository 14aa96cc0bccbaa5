"""Types that a kernel's name tells, for engines that tell them nowhere else.

Read off 1,100 layers of TensorRT 8.2 to 10.9 whose types are known (tests/inspection/test_dynamic_shapes.py counts
again): `…_i8f16_i8i32_f32_…` reads INT8, writes FP16, multiplies INT8 weights, sums in INT32. The input was right for
all but the 9 Myelin gemms that convert inside; the output for all but 28, again Myelin's, which convert behind.
"""

import re

_TYPES = {
    "i8": "INT8", "s8": "INT8", "u8": "UINT8", "f16": "FP16", "h16": "FP16", "f32": "FP32", "tf32": "FP32",
    "bf16": "BF16", "e4m3": "FP8", "i32": "INT32", "s32": "INT32",
}  # fmt: skip
_ONE = "|".join(sorted(_TYPES, key=len, reverse=True))
# in out _ weights accumulator _ compute
_XMMA = re.compile(
    rf"_(?P<read>{_ONE})(?P<written>{_ONE})?_(?P<second>{_ONE})(?P<sums>{_ONE})?_(?P<third>{_ONE})(?=_|$)"
)
_CUDNN = re.compile(r"(?:^|_)(?P<written>fp16|fp32|int8)_(?P<family>i\d+|h\d+|s\d+)cudnn(?:_(?P<read>int8|fp16))?")
_WORDS = {"fp16": "FP16", "fp32": "FP32", "int8": "INT8"}


def kernel_types(kernel: str) -> tuple[str, str]:
    """(type read, type written) of the kernel called `kernel`, "" for what its name does not tell."""
    found = _XMMA.search(kernel)
    if found is not None:
        read = _TYPES[found["read"]]
        written = _TYPES[found["written"]] if found["written"] else read
        return read, written
    old = _CUDNN.search(kernel)
    if old is not None:
        return _WORDS.get(old["read"] or "", ""), _WORDS[old["written"]]
    return "", ""
