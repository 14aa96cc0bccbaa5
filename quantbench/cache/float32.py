"""float32 values as the hexadecimal digits that TensorRT's calibration caches hold."""

import struct

HEX_DIGITS = 8


def from_hex(text: str) -> float:
    """The IEEE-754 float32 whose bits `text` spells, most significant digit first, 1 to 8 digits.

    TensorRT prints the 32 bits as an unsigned number without leading zeros, so "0" is 0.0 and "1" the smallest
    denormal. Raises ValueError for anything else, signs and "0x" included.
    """
    if not 1 <= len(text) <= HEX_DIGITS or not all(c in "0123456789abcdefABCDEF" for c in text):
        raise ValueError(f"{text!r} is not 1 to {HEX_DIGITS} hexadecimal digits")
    return float(struct.unpack(">f", int(text, 16).to_bytes(4, "big"))[0])


def to_hex(value: float) -> str:
    """`value` rounded to float32 (to nearest, ties to even), spelled as TensorRT spells it: unpadded, lower case.

    Raises OverflowError for finite values beyond float32.
    """
    return format(int.from_bytes(struct.pack(">f", value), "big"), "x")
