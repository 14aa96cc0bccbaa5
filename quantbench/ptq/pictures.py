"""A few pictures for the report: boxes or masks of both models on three images, or images that a classifier answers
anew."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from quantbench.calibration.ort_outputs import runner, static_batch
from quantbench.data.sources import feeds, is_calls
from quantbench.errors import QuantbenchError
from quantbench.evaluate.boxes import detections
from quantbench.evaluate.evaluator import image_size
from quantbench.evaluate.pairs import CONFIDENCE
from quantbench.evaluate.scores import class_map, resized
from quantbench.evaluate.suppress import Floats
from quantbench.evaluate.task import facts_of, find_task
from quantbench.images.source import Subset
from quantbench.ptq.measure import Measuring, Pair
from quantbench.records.evaluation import Evaluation
from quantbench.runnable import runnable_part

_DRAWN, _CLASSIFIED = 3, 6
_SIDE = 320
# Okabe and Ito's blue and vermilion, which the colour-blind tell apart; INT8's line is thinner besides.
_PLAIN, _INT8 = (0, 114, 178), (213, 94, 0)
# Of classes from 1 on, theirs too: sky blue, vermilion, yellow, blue, bluish green, orange, reddish purple.
_MASKS = np.array(
    [(86, 180, 233), (213, 94, 0), (240, 228, 66), (0, 114, 178), (0, 158, 115), (230, 159, 0),
     (204, 121, 167)], np.float64,
)  # fmt: skip
_GAP = 8


def pictures_of(inputs: Measuring, evaluation: Evaluation, pair: Pair) -> list[dict[str, str]]:
    """Pictures as the models saw them, each with `caption` and `uri`; none for tasks that have nothing to draw."""
    source = inputs.images.source
    if is_calls(source):
        return []
    if evaluation.task in ("boxes", "masks"):
        count = len(source)
        chosen = sorted({0, count // 2, count - 1})[:_DRAWN]
    elif evaluation.task == "classes":
        chosen = [index for index in evaluation.differing if index < len(source)][:_CLASSIFIED]
    else:
        return []
    if not chosen:
        return []
    model = runnable_part(inputs.model.proto)
    fixed = static_batch(model)
    reference, quantized = runner(pair.plain, fixed), runner(pair.int8, fixed)
    facts = facts_of(inputs.model.proto)
    found = []
    for index in chosen:
        try:
            feed = next(iter(feeds(Subset(source, (index,)), inputs.model.input_name, 1)))
        except QuantbenchError:
            continue  # an image that cannot be read was skipped and told of before
        image = _shown(next(iter(feed.values()))[0])
        if image is None:
            return []
        outputs = [[np.asarray(array) for array in run(feed)] for run in (reference, quantized)]
        wanted = "masks" if evaluation.task == "masks" else "auto"  # labels may have said so, not the model
        task, size = find_task(outputs[0], facts, wanted), image_size(feed)
        if task.kind == "boxes":
            rows = [detections(own, task, size, CONFIDENCE)[0] for own in outputs]
            _draw(image, rows)
            caption = f"{source.name(index)}: {len(rows[0])} boxes in FP32, {len(rows[1])} in INT8"
        elif task.kind == "masks":
            maps = [class_map(own, task)[0] for own in outputs]
            image = _side_by_side(image, maps)
            alike = 100 * float((maps[0] == maps[1]).mean())
            caption = f"{source.name(index)}: FP32 left, INT8 right, {alike:.1f} % of pixels alike"
        else:
            best = [int(own[task.outputs[0] if task.outputs else 0].reshape(-1).argmax()) for own in outputs]
            named = [facts.names[label] if label < len(facts.names) else f"class {label}" for label in best]
            caption = f"{source.name(index)}: {named[0]} in FP32, {named[1]} in INT8"
            if (factor := _SIDE // 2 // max(image.size)) > 1:  # of 28 pixels nobody sees what confused the model
                image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
        found.append({"caption": caption, "uri": _encoded(image)})
    return found


def _shown(array: NDArray[Any]) -> Image.Image | None:
    """The model's input, stretched to 0 to 255: its normalization is undone only so far that one sees the picture.
    None for what is no picture of one to four channels."""
    pixels = array.astype(np.float64)
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4) and pixels.shape[-1] not in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        return None
    low, high = pixels.min(), pixels.max()
    scaled = ((pixels - low) / max(high - low, 1e-9) * 255).astype(np.uint8)
    return Image.fromarray(scaled[:, :, 0] if scaled.shape[2] == 1 else scaled[:, :, :3]).convert("RGB")


def _draw(image: Image.Image, rows: list[Floats]) -> None:
    pen = ImageDraw.Draw(image)
    for found, colour, width in zip(rows, (_PLAIN, _INT8), (4, 2), strict=True):
        for row in found:
            x0, y0, x1, y1 = (float(v) for v in row[:4])
            if x1 > x0 and y1 > y0:
                pen.rectangle((x0, y0, x1, y1), outline=colour, width=width)


def _side_by_side(image: Image.Image, maps: list[NDArray[np.int64]]) -> Image.Image:
    """The picture twice, each under the classes of one of `maps` [h, w]; class 0, the background, stays as it is.

    Where the two differ, INT8's is drawn in full, so that a few pixels are seen.
    """
    image.thumbnail((_SIDE, _SIDE))
    both = Image.new("RGB", (2 * image.width + _GAP, image.height), "white")
    shape = (image.height, image.width)
    plain, int8 = (resized(classes, shape) for classes in maps)
    pixels = np.asarray(image, np.float64)
    for place, classes in enumerate((plain, int8)):
        share = np.where(classes == 0, 0.0, 0.6)
        share[(plain != int8) & (classes != 0)] = 1.0
        colours = _MASKS[(classes - 1) % len(_MASKS)]
        mixed = pixels + share[:, :, None] * (colours - pixels)
        both.paste(Image.fromarray(mixed.round().astype(np.uint8)), (place * (image.width + _GAP), 0))
    return both


def _encoded(image: Image.Image) -> str:
    image.thumbnail((2 * _SIDE + _GAP, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
