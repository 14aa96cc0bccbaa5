"""RandomCrops: many seeded views of few photos."""

import math
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from quantbench.errors import QuantbenchError
from quantbench.images.kept import Room
from quantbench.images.source import Pictures, combined_sha256, text_sha256
from quantbench.images.truth import PictureBoxes, PictureMask

# Of decoded photos that stay in memory; those of the demo take 13 MB.
_PHOTO_BYTES = 64_000_000


@dataclass(frozen=True)
class RandomCrops:
    """`count` regions of `pictures`, taken in turn, each of random place, size, aspect and mirroring.

    Every region depends on `seed` and its own index alone, so that a longer list starts with the shorter one.
    `area` is the least and greatest share of the photo; the aspect lies between 3:4 and 4:3, as in torchvision's
    RandomResizedCrop. Pixels are not resampled here. Raises QuantbenchError for shares outside 0 to 1.
    """

    pictures: Pictures
    count: int
    seed: int = 0
    area: tuple[float, float] = (0.25, 1.0)
    _room: Room = field(default_factory=lambda: Room(_PHOTO_BYTES), compare=False, repr=False)
    _photos: dict[int, Image.Image] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.count < 1 or not 0.0 < self.area[0] <= self.area[1] <= 1.0:
            raise QuantbenchError(f"crops: count {self.count} and area {self.area} must be positive, areas at most 1")

    def __len__(self) -> int:
        return self.count

    def picture(self, index: int) -> Image.Image:
        """The region, at the photo's own resolution. Raises BadImageError as the photo does."""
        photo = self._photo(index % len(self.pictures))
        rng = np.random.default_rng([self.seed, index])
        share, aspect = rng.uniform(*self.area), math.exp(rng.uniform(-math.log(4 / 3), math.log(4 / 3)))
        pixels = share * photo.width * photo.height
        width = min(max(round(math.sqrt(pixels * aspect)), 1), photo.width)
        height = min(max(round(math.sqrt(pixels / aspect)), 1), photo.height)
        left = int(rng.integers(photo.width - width + 1))
        top = int(rng.integers(photo.height - height + 1))
        region = photo.crop((left, top, left + width, top + height))
        return region.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else region

    def _photo(self, index: int) -> Image.Image:
        """Decoded once: each photo has many regions."""
        known = self._photos.get(index)
        if known is None:
            known = self.pictures.picture(index)
            if self._room.take(known.width * known.height * len(known.getbands())):
                self._photos[index] = known
        return known

    def name(self, index: int) -> str:
        """`photo#index`."""
        return f"{self.pictures.name(index % len(self.pictures))}#{index}"

    def label(self, index: int) -> int | None:
        """The photo's class: a crop may show less of the thing, so accuracy on crops is below that on photos.

        None where the photo is labelled with boxes or a mask.
        """
        label = self.pictures.label(index % len(self.pictures))
        return None if isinstance(label, PictureBoxes | PictureMask) else label

    def sha256(self) -> str:
        """Hash of the photos and of the parameters."""
        parameters = repr((self.count, self.seed, self.area))
        return combined_sha256([(self.pictures.sha256(), "photos"), (text_sha256(parameters), "crops")])
