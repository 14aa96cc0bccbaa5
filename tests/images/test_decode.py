"""Decoding: every kind of file becomes the upright 8-bit picture that it shows; damage is named, never a crash."""

import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantbench.images.decode import BadImageError, decode_bytes, decode_file
from quantbench.images.preprocess import Preprocess

ORIENTATION = 0x0112


def ramp() -> Image.Image:
    """A picture without symmetry: every turn or mirroring of it differs."""
    rows, columns = np.mgrid[0:20, 0:30]
    return Image.fromarray(np.stack([rows * 12, columns * 8, (rows + columns) * 5], axis=2).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_kinds_keep_every_pixel(kind: str) -> None:
    assert np.array_equal(np.asarray(decode_bytes(encode(ramp(), kind), "x")), np.asarray(ramp()))


def test_webp_lossless_keeps_every_pixel() -> None:
    decoded = decode_bytes(encode(ramp(), "WEBP", lossless=True), "x")
    assert np.array_equal(np.asarray(decoded), np.asarray(ramp()))


def test_jpeg_is_close() -> None:
    decoded = np.asarray(decode_bytes(encode(ramp(), "JPEG", quality=98, subsampling=0), "x")).astype(int)
    assert np.abs(decoded - np.asarray(ramp())).max() <= 12


# EXIF 2.32, tag 0x0112: what has to be done to the stored rows and columns to see the picture upright.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", sorted(UPRIGHT))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = np.asarray(decode_bytes(encode(ramp(), kind, exif=exif, **options), "x"))
    assert np.array_equal(decoded, UPRIGHT[orientation](np.asarray(ramp())))


def test_exif_orientation_of_a_jpeg_turns_it() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    assert decode_bytes(encode(ramp(), "JPEG", exif=exif), "x").size == (20, 30)


def test_grey_stays_grey() -> None:
    grey = ramp().convert("L")
    decoded = decode_bytes(encode(grey, "PNG"), "x")
    assert decoded.mode == "L"
    assert np.array_equal(np.asarray(decoded), np.asarray(grey))


def test_one_bit_becomes_black_and_white() -> None:
    decoded = decode_bytes(encode(ramp().convert("1"), "PNG"), "x")
    assert decoded.mode == "L"
    assert set(np.unique(np.asarray(decoded))) == {0, 255}


def test_palette_shows_its_colours() -> None:
    palette = ramp().quantize(64)
    decoded = decode_bytes(encode(palette, "PNG"), "x")
    assert np.array_equal(np.asarray(decoded), np.asarray(palette.convert("RGB")))


def test_alpha_is_composited_on_white() -> None:
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 0] = 200
    pixels[0, :, 3] = (0, 128, 255)
    decoded = np.asarray(decode_bytes(encode(Image.fromarray(pixels), "PNG"), "x"))
    # alpha a shows a * colour + (1 - a) * white
    expected = [[255, 255, 255], [227, 127, 127], [200, 0, 0]]
    assert np.abs(decoded[0].astype(int) - expected).max() <= 1


def test_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    decoded = np.asarray(decode_bytes(encode(image, "PNG", transparency=0), "x"))
    assert decoded[0].tolist() == [[255, 255, 255], [40, 50, 60]]


def test_grey_with_alpha() -> None:
    image = Image.fromarray(np.array([[[90, 0], [90, 255]]], np.uint8), "LA")
    assert np.asarray(decode_bytes(encode(image, "PNG"), "x"))[0].tolist() == [[255] * 3, [90] * 3]


def test_cmyk_jpeg_becomes_rgb() -> None:
    assert decode_bytes(encode(ramp().convert("CMYK"), "JPEG"), "x").mode == "RGB"


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    deep = np.array([[0, 128, 257, 32768, 65278, 65535]], np.uint16)
    decoded = np.asarray(decode_bytes(encode(Image.fromarray(deep), kind), "x"))
    np.testing.assert_allclose(decoded[0], deep[0] / 257, rtol=1e-6)
    # 12-bit data keeps its 4,096 levels, and a declared scale brings them to the whole range.
    narrow = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    image = decode_bytes(encode(Image.fromarray(narrow), kind), "x")
    pixels = Preprocess(scale=16 / 255, exact=(64, 64), channels="RGB")(image)
    assert len(np.unique(pixels)) == 4096
    np.testing.assert_array_equal(pixels[0], pixels[2])
    np.testing.assert_allclose(pixels.max(), 4095 * 16 / 65535, rtol=1e-6)


def test_float_tiff_between_0_and_1() -> None:
    decoded = decode_bytes(encode(Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)), "TIFF"), "x")
    assert np.asarray(decoded)[0].tolist() == [0, 127.5, 255]


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan])
def test_float_tiff_of_unknown_range_is_refused(value: float) -> None:
    data = encode(Image.fromarray(np.array([[0.0, value]], np.float32)), "TIFF")
    with pytest.raises(BadImageError, match=r"scan\.tif: .*outside 0 to 1"):
        decode_bytes(data, "scan.tif")


def test_first_frame_of_several() -> None:
    stream = io.BytesIO()
    ramp().save(stream, "TIFF", save_all=True, append_images=[Image.new("RGB", (30, 20))])
    assert np.array_equal(np.asarray(decode_bytes(stream.getvalue(), "x")), np.asarray(ramp()))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"just text\n" * 20, "not a JPEG"),
        (encode(ramp(), "PNG")[:-40], "damaged|truncated"),
        (encode(ramp(), "JPEG")[: len(encode(ramp(), "JPEG")) // 2], "damaged"),
        (encode(ramp(), "GIF"), "not a JPEG"),
    ],
)
def test_damage_names_the_file(data: bytes, reason: str) -> None:
    with pytest.raises(BadImageError, match=reason) as caught:
        decode_bytes(data, "holiday.jpg")
    assert str(caught.value).startswith("holiday.jpg: ")
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match=r"gone\.png: cannot be read"):
        decode_file(tmp_path / "gone.png")


@pytest.mark.filterwarnings("ignore")
def test_random_damage_gives_a_picture_or_a_named_error() -> None:
    rng = random.Random(0)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    seeds = [
        *(encode(ramp(), kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP", "TIFF")),
        encode(ramp(), "BMP"),
        encode(ramp(), "JPEG", progressive=True),
        encode(ramp(), "TIFF", compression="tiff_lzw"),
        encode(ramp().quantize(16), "PNG"),
        encode(Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)), "PNG"),
    ]
    outcomes = set()
    for number in range(1500):
        data = bytearray(seeds[number % len(seeds)])
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        else:
            for _ in range(rng.randint(1, 6)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            assert decode_bytes(bytes(data), "x.img").mode in ("L", "RGB", "F")
            outcomes.add("picture")
        except BadImageError as error:
            outcomes.add(str(error).split(": ")[0])
    assert outcomes == {"picture", "x.img"}
