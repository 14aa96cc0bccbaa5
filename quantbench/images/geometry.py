"""Resizing and cropping of PIL images. Sizes are (height, width); rounding follows torchvision and ultralytics."""

from PIL import Image

from quantbench.errors import QuantbenchError


def resize_shortest(image: Image.Image, length: int, resample: Image.Resampling) -> Image.Image:
    """Resize so that the shorter side is `length`; the longer one is truncated to an integer, as torchvision does."""
    width, height = image.size
    if width <= height:
        size = (length, max(int(length * height / width), 1))
    else:
        size = (max(int(length * width / height), 1), length)
    return image if size == image.size else image.resize(size, resample)


def resize_exact(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    """Resize to `size`, whatever the aspect."""
    height, width = size
    return image if image.size == (width, height) else image.resize((width, height), resample)


def letterbox(image: Image.Image, size: tuple[int, int], pad: int, resample: Image.Resampling) -> Image.Image:
    """Fit into `size` with the aspect kept, centred, the rest filled with grey level `pad` (ultralytics' LetterBox)."""
    height, width = size
    ratio = min(height / image.height, width / image.width)
    inner = (max(round(image.width * ratio), 1), max(round(image.height * ratio), 1))
    resized = image if image.size == inner else image.resize(inner, resample)
    fill: int | tuple[int, int, int] = pad if image.mode == "L" else (pad, pad, pad)
    canvas = Image.new(image.mode, (width, height), fill)
    canvas.paste(resized, (round((width - inner[0]) / 2 - 0.1), round((height - inner[1]) / 2 - 0.1)))
    return canvas


def center_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle `size` of the image (offsets rounded as torchvision does). Raises QuantbenchError if it is smaller."""
    height, width = size
    if image.width < width or image.height < height:
        raise QuantbenchError(
            f"image of {image.height}x{image.width} is smaller than the crop of {height}x{width} (height x width); "
            "declare a resize (shortest, exact or letterbox) before the crop, or leave the image out"
        )
    left, top = round((image.width - width) / 2.0), round((image.height - height) / 2.0)
    return image.crop((left, top, left + width, top + height))
