"""Pictures that several stages of a run read, decoded and prepared once."""

from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from numpy.typing import NDArray

from quantbench.images.source import Prepared, Subset

Data = TypeVar("Data")

# 425 pictures of 224 x 224, or 52 of 640 x 640; what comes after is decoded each time.
ROOM_BYTES = 256_000_000


class Room:
    """So many bytes for all sources that share it; threads at once may take a picture more. No lock: sources are
    pickled."""

    def __init__(self, size: int = ROOM_BYTES) -> None:
        self._left = size

    def take(self, size: int) -> bool:
        """Whether `size` bytes are left, which are taken then."""
        fits = size <= self._left
        self._left -= size if fits else 0
        return fits


@dataclass(frozen=True)
class Kept(Prepared):
    """Prepared pictures that stay in memory while there is room. A file that changes later changes none of them."""

    room: Room = field(default_factory=Room, compare=False)
    _arrays: dict[int, NDArray[Any]] = field(default_factory=dict, compare=False, repr=False)

    def load(self, index: int) -> NDArray[Any]:
        """As `Prepared.load`; not to be written to."""
        known = self._arrays.get(index)
        if known is not None:
            return known
        array = super().load(index)
        array.setflags(write=False)
        if self.room.take(array.nbytes):
            self._arrays[index] = array
        return array


def kept(source: Data, room: Room) -> Data:
    """`source`, or some of one, with its pictures kept in `room`; as it is where it is none of pictures."""
    if isinstance(source, Subset):
        return replace(source, whole=kept(source.whole, room))
    if type(source) is not Prepared:
        return source
    prepared = cast(Prepared, source)
    return cast(Data, Kept(prepared.pictures, prepared.preprocess, room))
