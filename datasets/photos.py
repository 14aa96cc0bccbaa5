"""Photos that Python packages carry: for calibration those of scikit-image and scikit-learn, held out those of foolbox.

The two parts share no photo, so that agreement measured on the second is not flattered by calibration on the first.
"""

from quantbench.demo.packages import package_file, package_folder
from quantbench.errors import QuantbenchError
from quantbench.images.crops import RandomCrops
from quantbench.images.files import FilePictures
from quantbench.images.source import Pictures

INSTALL = "pip install --no-deps scikit-image scikit-learn foolbox==3.3.4"

CALIBRATION = {
    "skimage": ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"),
    "sklearn": ("china.jpg", "flower.jpg"),
}
_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}


def pictures(split: str = "calibration", crops: int = 0, seed: int = 0) -> Pictures:
    """The photos of `split` (calibration, heldout or all), or that many seeded random crops of them, mirrored or not.

    Labels are None: most of these photos show no ImageNet class.
    """
    what = "the data set photos"
    calibration = [
        package_file(module, f"{_FOLDERS[module]}/{name}", what, INSTALL)
        for module, names in CALIBRATION.items()
        for name in names
    ]
    heldout = sorted((package_folder("foolbox", what, INSTALL) / "data").glob("imagenet_*.jpg"))
    parts = {"calibration": calibration, "heldout": heldout, "all": [*calibration, *heldout]}
    if split not in parts:
        raise QuantbenchError(f"photos: no split {split!r}; there are {', '.join(parts)}")
    photos = FilePictures(parts[split])
    return RandomCrops(photos, crops, seed) if crops else photos
