"""The ranges of a quantbench run."""

import dataclasses
from pathlib import Path

from quantbench.cache import quantbench_json, tensorrt
from quantbench.cache.model import CalibrationCache
from quantbench.errors import QuantbenchError
from quantbench.text_file import read_object

RANGES = "ranges.json"
# What TensorRT calls the method of a run in a cache's header; the others are nearest to entropy in what they do.
_ALGORITHMS = {"minmax": "MinMaxCalibration", "legacy": "LegacyCalibration"}


def from_run(folder: Path) -> CalibrationCache:
    """Read `ranges.json` of a run folder; `algorithm` is TensorRT's name for the run's method.

    Raises QuantbenchError where there is none, or none that can be read.
    """
    path = folder / RANGES
    if not path.is_file():
        raise QuantbenchError(f"{folder} holds no {RANGES}; give the output folder of `quantbench ptq`")
    data = read_object(path)
    if not quantbench_json.matches(data):
        raise QuantbenchError(f"{path} is no ranges.json of quantbench")
    cache = quantbench_json.parse(data)
    return dataclasses.replace(cache, algorithm=_ALGORITHMS.get(cache.algorithm, tensorrt.DEFAULT_ALGORITHM))
