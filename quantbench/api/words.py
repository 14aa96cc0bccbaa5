"""Errors of the library in the words of Python: the argument's name where a command would name its flag."""

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from quantbench.errors import QuantbenchError

P = ParamSpec("P")
T = TypeVar("T")
# Flag of a command to the argument of the function that does the same.
_ARGUMENTS = {
    "--calib-dir": "data", "--data": "data", "--calibrator": "calibrator", "--preprocess": "preprocess",
    "--refresh": "quantize() again", "--for": "tensorrt", "--backend": "backend", "--precision": "precision",
    "--target": "target", "--ranges": "ranges", "--shapes": "shapes", "--labels": "labels", "--out": "out",
    "--max-images": "max_images", "--exporter": "exporter", "--dynamic": "dynamic_batch", "--values": "values",
    "--threads": "threads", "--device": "device", "--task": "task", "--metric": "metric", "--classes": "classes",
}  # fmt: skip
_FLAG = re.compile(r"--[a-z][a-z-]*(?: (?:FOLDER|FILE|NAME))?")


def in_words_of_python(function: Callable[P, T]) -> Callable[P, T]:
    """`function` whose QuantbenchErrors name arguments in place of flags."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except QuantbenchError as error:
            text = _FLAG.sub(lambda found: _ARGUMENTS.get(found[0].split(" ")[0], found[0]), str(error))
            if text == str(error):
                raise
            raise type(error)(text) from error

    return called
