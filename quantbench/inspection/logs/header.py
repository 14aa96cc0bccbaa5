"""Which TensorRT wrote a log, by its own words (a file's name may lie)."""

import re

_TREX = re.compile(r"\[TensorRT v(\d+)\]")
_LIBRARY = re.compile(r"lib(?:nvinfer|tensorrt)[\w.-]*?\.so\.(\d+\.\d+(?:\.\d+)*)")
_OPTION = re.compile(r"(?:TensorRT version: |Loaded Module: tensorrt \| Version: )(\d+(?:\.\d+)+)")
_RTX = re.compile(r"(?:TensorRT-RTX|tensorrt_rtx)(?: v(\d+(?:\.\d+)+))?", re.IGNORECASE)


def version_of(message: str) -> str:
    """ "8.5.2" of `[TensorRT v8502]`, `libnvinfer….so.8.5.2` or `TensorRT version: 8.5.2`; "" where it tells none.

    Banner digits are major and minor with two digits each for minor.patch from 8 on (8502, 101600), which leaves
    8.0.3 as 8003 and 8.4.12 as 8412: the last two digits are the patch, what precedes them the major and minor.
    """
    found = _OPTION.search(message)
    if found is None and "rtx" not in message.lower():
        found = _LIBRARY.search(message)
    if found:
        return found.group(1)
    banner = _TREX.search(message)
    if banner:
        return _split_digits(banner.group(1))
    rtx = _RTX.search(message)
    return f"RTX {rtx.group(1) or ''}".strip() if rtx else ""


def _split_digits(digits: str) -> str:
    if len(digits) == 4:  # 8502 is 8.5.2, 8412 is 8.4.12, 7103 is 7.1.3
        return f"{digits[0]}.{digits[1]}.{int(digits[2:])}"
    if len(digits) == 6:  # 101600 is 10.16.0
        return f"{digits[:2]}.{int(digits[2:4])}.{int(digits[4:])}"
    return digits
