"""Whether pictures are deeper than 8 bits, and how much of their range they use."""

from itertools import islice

import numpy as np

from quantbench.errors import QuantbenchError
from quantbench.images.source import Prepared, Source, Subset

# Pictures of one folder mostly are of one camera: a few tell.
_LOOKED_AT = 8
_LARGEST = 65535


def depth_note(source: Source) -> str:
    """A line on the first few pictures of `source`: that they are 16-bit grey, what becomes of their levels, and the
    scale to declare where they fill a part of the range only. "" for others, and for arrays."""
    whole = source.whole if isinstance(source, Subset) else source
    if not isinstance(whole, Prepared):
        return ""
    largest = -1.0
    for index in islice(range(len(whole)), _LOOKED_AT):
        try:
            picture = whole.pictures.picture(index)
        except QuantbenchError:
            continue  # told where it is read for the run
        if picture.mode == "F":
            largest = max(largest, float(np.asarray(picture).max()))
    if largest < 0:
        return ""
    reached = round(largest * _LARGEST / 255)
    bits = max(reached.bit_length(), 1)
    told = f"grey of more than 8 bits keeps all its levels, 0 to {_LARGEST} as 0 to 255"
    if bits >= 16:
        return told
    return (
        f"{told}; these reach {reached}, {bits} bits: a declared scale {2 ** (16 - bits)} times larger makes them as "
        f"bright as 8-bit pictures"
    )
