"""Preprocessing does what its declaration says, pixel by pixel, and refuses declarations that contradict themselves."""

import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from quantbench.data.sources import folder_source
from quantbench.errors import QuantbenchError
from quantbench.images.depth import depth_note
from quantbench.images.preprocess import PRESETS, Preprocess, preset
from quantbench.images.preprocess_table import BEGIN, END, preprocess_table


def picture(height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(height * 1000 + width)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_bare_declaration_hands_over_the_pixels() -> None:
    image = picture(5, 7)
    array = Preprocess()(image)
    assert array.dtype == np.float32
    assert np.array_equal(array, np.asarray(image).transpose(2, 0, 1))


def test_normalization_is_per_channel() -> None:
    image = picture(4, 4)
    array = Preprocess(scale=0.5, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 8.0))(image)
    pixels = np.asarray(image).astype(np.float64)
    for channel, (mean, std) in enumerate([(1, 4), (2, 5), (3, 8)]):
        np.testing.assert_allclose(array[channel], (pixels[:, :, channel] * 0.5 - mean) / std, rtol=1e-6)


def test_bgr_turns_the_channels_and_mean_follows() -> None:
    image = picture(4, 4)
    array = Preprocess(channels="BGR", mean=(10.0, 0.0, 0.0))(image)
    assert np.array_equal(array[0], np.asarray(image)[:, :, 2] - 10.0)
    assert np.array_equal(array[2], np.asarray(image)[:, :, 0])


def test_nhwc_is_the_transpose() -> None:
    image = picture(300, 400)
    nchw = preset("imagenet")(image)
    assert np.array_equal(preset("imagenet", layout="NHWC")(image), nchw.transpose(1, 2, 0))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(("channels", "count"), [("GRAY", 1), ("RGB", 3)])
def test_channel_count_is_the_declared_one(mode: str, channels: str, count: int) -> None:
    assert Preprocess.from_json({"channels": channels})(picture(6, 6).convert(mode)).shape == (count, 6, 6)


def test_float16_and_uint8() -> None:
    image = picture(4, 4)
    assert Preprocess(dtype="float16", scale=1 / 255)(image).dtype == np.float16
    raw = Preprocess(dtype="uint8", layout="NHWC")(image)
    assert raw.dtype == np.uint8
    assert np.array_equal(raw, np.asarray(image))


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (224, 224), (30, 40), (1, 500)])
def test_imagenet_shape_holds_for_any_picture(size: tuple[int, int]) -> None:
    array = preset("imagenet")(picture(*size))
    assert array.shape == preset("imagenet").shape == (3, 224, 224)


def test_imagenet_matches_its_definition() -> None:
    image = picture(300, 400)
    resized = np.asarray(image.resize((341, 256), Image.Resampling.BILINEAR))  # 256 * 400 / 300 = 341.3
    crop = resized[16:240, 58:282] / 255.0  # (341 - 224) / 2 = 58.5, rounded to even
    expected = (crop - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(preset("imagenet")(image), expected.transpose(2, 0, 1), atol=1e-5)


def test_efficientnet_lite_range() -> None:
    array = preset("efficientnet-lite")(Image.new("RGB", (300, 300), (0, 127, 255)))
    assert [float(array[c, 0, 0]) for c in range(3)] == [-127 / 128, 0.0, 1.0]


def test_letterbox_keeps_the_aspect_and_pads_evenly() -> None:
    array = preset("yolo", letterbox=(64, 64))(Image.new("RGB", (100, 50), (255, 255, 255)))
    grey = np.float32(114 / 255)
    assert array.shape == (3, 64, 64)
    np.testing.assert_allclose(array[:, :16], grey, rtol=1e-6)
    np.testing.assert_allclose(array[:, 16:48], 1.0, rtol=1e-6)
    np.testing.assert_allclose(array[:, 48:], grey, rtol=1e-6)


def test_letterbox_of_a_grey_model() -> None:
    array = Preprocess(letterbox=(8, 8), channels="GRAY", pad=7)(Image.new("L", (8, 4), 9))
    assert sorted(set(array.ravel().tolist())) == [7.0, 9.0]


def test_exact_ignores_the_aspect() -> None:
    assert Preprocess(exact=(10, 20))(picture(33, 44)).shape == (3, 10, 20)


def test_picture_smaller_than_the_crop_says_what_to_do() -> None:
    with pytest.raises(QuantbenchError, match=r"100x90 is smaller than the crop of 224x224.*declare a resize"):
        Preprocess(crop=(224, 224))(picture(100, 90))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"shortest": 256, "exact": [2, 2]}, "only one of"),
        ({"mean": [1.0, 2.0]}, "2 values for 3 channels"),
        ({"std": 0}, "must not be 0"),
        ({"channels": "YUV"}, "RGB, BGR, GRAY"),
        ({"dtype": "uint8", "scale": 0.5}, "raw pixels"),
        ({"crop": [0, 5]}, "at least 1"),
        ({"crop": [1, 2, 3]}, "two integers"),
        ({"crop": "big"}, "two integers"),
        ({"mean": ["a", "b", "c"]}, "numbers"),
        ({"shortest": 2.5}, "integer"),
        ({"shortest": True}, "cannot be True"),
        ({"scale": "1/255"}, "number"),
        ({"resise": 3}, "unknown key 'resise'"),
    ],
)
def test_wrong_declarations_are_refused(data: dict[str, object], reason: str) -> None:
    with pytest.raises(QuantbenchError, match=reason):
        Preprocess.from_json(data)


def test_one_number_stands_for_a_square_and_for_all_channels() -> None:
    assert Preprocess.from_json({"crop": 224, "mean": 127}) == Preprocess(crop=(224, 224), mean=(127.0,))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_json_keeps_everything(name: str) -> None:
    assert Preprocess.from_json(json.loads(json.dumps(PRESETS[name].to_json()))) == PRESETS[name]


def test_unknown_preset_lists_those_that_exist() -> None:
    with pytest.raises(
        QuantbenchError, match="no preprocessing preset 'imagnet'; there are efficientnet-lite, imagenet"
    ):
        preset("imagnet")


def test_description_names_each_step() -> None:
    line = preset("efficientnet-lite").describe()
    assert line == "resize the shorter side to 256 (bicubic), centre crop 224x224, (x - 127) / 128, RGB, NCHW, float32"


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40))
def test_any_picture_fits_any_letterbox(height: int, width: int, to_height: int, to_width: int) -> None:
    declared = Preprocess(letterbox=(to_height, to_width), pad=0)
    array = declared(Image.new("RGB", (width, height), (255, 255, 255)))
    assert array.shape == declared.shape
    # One of the two directions is filled to within a pixel; the padding on two sides differs by at most one.
    rows, columns = np.flatnonzero(array[0].any(1)), np.flatnonzero(array[0].any(0))
    assert len(rows) >= to_height - 1 or len(columns) >= to_width - 1
    assert abs(rows[0] - (to_height - 1 - rows[-1])) <= 1
    assert abs(columns[0] - (to_width - 1 - columns[-1])) <= 1


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 64))
def test_shortest_side_is_the_declared_one(height: int, width: int, length: int) -> None:
    shape = Preprocess(shortest=length)(Image.new("RGB", (width, height))).shape
    assert min(shape[1:]) == length
    assert (shape[1] >= shape[2]) == (height >= width) or shape[1] == shape[2]


def test_the_page_and_the_help_name_every_key(cli) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    assert page.partition(f"{BEGIN}\n")[2].partition(f"\n{END}")[0] == preprocess_table()
    names = [field.name for field in fields(Preprocess)]
    assert set(re.findall(r"^\| `(\w+)` \|", preprocess_table(), re.MULTILINE)) == set(names)
    shown = " ".join(cli("ptq", "--help")[1].replace("│", " ").split())
    assert not [name for name in names if not re.search(rf"\b{name}\b", shown)]


@pytest.mark.parametrize(("largest", "words"), [(4095, "reach 4095, 12 bits: a declared scale 16 times larger"),
                                                (65535, "keeps all its levels"), (None, "")])  # fmt: skip
def test_the_depth_of_pictures_is_told(tmp_path: Path, largest: int | None, words: str) -> None:
    values = np.linspace(0, largest or 255, 64).reshape(8, 8)
    Image.fromarray(values.astype(np.uint8 if largest is None else np.uint16)).save(tmp_path / "a.png")
    note = depth_note(folder_source(tmp_path, Preprocess(channels="GRAY")))
    assert words in note
    assert bool(note) is bool(words)
    assert ("declared scale" in note) is (largest == 4095)
