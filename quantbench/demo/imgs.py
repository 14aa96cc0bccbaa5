"""The demo photos as a folder of image files, for commands that take a folder."""

from pathlib import Path

from quantbench.atomic import atomic_path
from quantbench.cores import usable_cores
from quantbench.errors import QuantbenchError
from quantbench.images.open import open_pictures
from quantbench.side_by_side import in_order

COUNT = 64
SEED = 0
# zlib's Z_RLE: behind PNG's filters as small as its default, for photos, in a quarter of the time.
_RUNS = 3


def write_images(folder: Path, count: int = COUNT, seed: int = SEED) -> tuple[Path, ...]:
    """Write `count` seeded crops of the calibration photos as PNG into `folder` and return their paths.

    PNG keeps pixels exact, so that calibration gives the same numbers on any machine. Running it again gives the same
    files. Raises QuantbenchError where a package is missing, or `folder` holds other files, which would be calibrated
    upon as well.
    """
    crops = open_pictures("photos", {"split": "calibration", "crops": count, "seed": seed})
    paths = [folder / f"{index:03d}_{crops.name(index).split('.')[0]}.png" for index in range(len(crops))]
    if folder.exists() and not folder.is_dir():
        raise QuantbenchError(f"{folder} is a file; choose a folder for the demo images")
    others = sorted({path.name for path in folder.iterdir()} - {path.name for path in paths}) if folder.exists() else []
    if others:
        raise QuantbenchError(f"{folder} holds other files ({others[0]}); choose an empty or new folder")

    def write(index: int) -> Path:
        with atomic_path(paths[index]) as temporary:
            crops.picture(index).save(temporary, format="PNG", compress_type=_RUNS)
        return paths[index]

    return tuple(in_order(range(len(paths)), write, usable_cores()))
