"""Resizing and cropping of PIL images, and the arithmetic of it. Sizes are (height, width).

Rounding follows torchvision and ultralytics.
"""

from PIL import Image

from quantbench.errors import QuantbenchError

Size = tuple[int, int]


def resize_shortest(image: Image.Image, length: int, resample: Image.Resampling) -> Image.Image:
    """Resize so that the shorter side is `length`; the longer one is truncated to an integer, as torchvision does."""
    return resize_exact(image, shortest_size((image.height, image.width), length), resample)


def shortest_size(size: Size, length: int) -> Size:
    """What `resize_shortest` makes of an image of `size`."""
    height, width = size
    if width <= height:
        return max(int(length * height / width), 1), length
    return length, max(int(length * width / height), 1)


def resize_exact(image: Image.Image, size: Size, resample: Image.Resampling) -> Image.Image:
    """Resize to `size`, whatever the aspect."""
    height, width = size
    return image if image.size == (width, height) else image.resize((width, height), resample)


def letterbox(image: Image.Image, size: Size, pad: int, resample: Image.Resampling) -> Image.Image:
    """Fit into `size` with the aspect kept, centred, the rest filled with grey level `pad` (ultralytics' LetterBox)."""
    height, width = size
    inner, (top, left) = letterbox_place((image.height, image.width), size)
    resized = resize_exact(image, inner, resample)
    fill: int | tuple[int, int, int] = pad if image.mode in ("L", "F") else (pad, pad, pad)
    canvas = Image.new(image.mode, (width, height), fill)
    canvas.paste(resized, (left, top))
    return canvas


def letterbox_place(size: Size, target: Size) -> tuple[Size, Size]:
    """Size that an image of `size` has inside a letterbox of `target`, and its upper left corner (top, left)."""
    ratio = min(target[0] / size[0], target[1] / size[1])
    height, width = (max(round(side * ratio), 1) for side in size)
    return (height, width), (round((target[0] - height) / 2 - 0.1), round((target[1] - width) / 2 - 0.1))


def center_crop(image: Image.Image, size: Size) -> Image.Image:
    """The middle `size` of the image (offsets rounded as torchvision does). Raises QuantbenchError if it is smaller."""
    height, width = size
    if image.width < width or image.height < height:
        raise QuantbenchError(
            f"image of {image.height}x{image.width} is smaller than the crop of {height}x{width} (height x width); "
            "declare a resize (shortest, exact or letterbox) before the crop, or leave the image out"
        )
    top, left = crop_place((image.height, image.width), size)
    return image.crop((left, top, left + width, top + height))


def crop_place(size: Size, crop: Size) -> Size:
    """Upper left corner (top, left) of the centre crop of an image of `size`."""
    return round((size[0] - crop[0]) / 2.0), round((size[1] - crop[1]) / 2.0)
