"""Pictures prepared in several sizes, for a network that will see all of them."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from quantbench.errors import QuantbenchError
from quantbench.images.preprocess import Preprocess
from quantbench.images.source import Pictures, Prepared, combined_sha256
from quantbench.images.truth import Label


@dataclass(frozen=True)
class OfSizes:
    """A source of each picture once, prepared in one of the sizes: every k-th in the same, each size spread over the
    whole folder, and pictures of one size one after the other, so that they make batches.

    Raises QuantbenchError where there are fewer pictures than sizes.
    """

    pictures: Pictures
    preprocesses: tuple[Preprocess, ...]

    def __post_init__(self) -> None:
        if len(self.pictures) < len(self.preprocesses):
            raise QuantbenchError(
                f"{len(self.pictures)} calibration images for {len(self.preprocesses)} sizes of --shapes; give at "
                f"least one for each"
            )

    def __len__(self) -> int:
        return len(self.pictures)

    def load(self, index: int) -> NDArray[Any]:
        """Array of the size that the sample has. Raises BadImageError as `Prepared` does."""
        prepared, place = self._place(index)
        return prepared.load(place)

    def name(self, index: int) -> str:
        """Name of the picture."""
        prepared, place = self._place(index)
        return prepared.name(place)

    def label(self, index: int) -> Label:
        """Label of the picture, carried through its preprocessing."""
        prepared, place = self._place(index)
        return prepared.label(place)

    def sha256(self) -> str:
        """Hash of the pictures and of all preprocessings."""
        return combined_sha256((Prepared(self.pictures, p).sha256(), str(i)) for i, p in enumerate(self.preprocesses))

    def of_each_size(self) -> tuple[NDArray[Any], ...]:
        """The first sample of each size. Raises BadImageError as `load` does."""
        firsts = [0]
        for number in range(len(self.preprocesses) - 1):
            firsts.append(firsts[-1] + self._count(number))
        return tuple(self.load(index) for index in firsts)

    def _count(self, number: int) -> int:
        return len(range(number, len(self.pictures), len(self.preprocesses)))

    def _place(self, index: int) -> tuple[Prepared, int]:
        for number, preprocess in enumerate(self.preprocesses):
            if index < self._count(number):
                return Prepared(self.pictures, preprocess), number + index * len(self.preprocesses)
            index -= self._count(number)
        raise IndexError(index)
