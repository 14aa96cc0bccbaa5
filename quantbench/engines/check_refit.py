"""Whether a refitted engine computes what its new model says: the same noise through both."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.engines.bench_inputs import noise
from quantbench.engines.tensorrt_session import LoadedEngine
from quantbench.errors import QuantbenchError
from quantbench.ort import run as ort_run


def outputs_against_model(loaded: LoadedEngine, model: Path, seed: int = 0) -> Mapping[str, float]:
    """SQNR in dB of each output of the engine against onnxruntime's on `model`, on seeded noise; infinite where equal.

    Raises QuantbenchError where onnxruntime cannot run the model.
    """
    from quantbench.ort import create_session

    feed = {name: noise(loaded.opt_shape(name), loaded.dtype(name), seed) for name in loaded.inputs}
    session = create_session(model)
    expected = dict(zip((o.name for o in session.get_outputs()), ort_run(session, None, feed), strict=True))
    got = loaded.context().run(feed)
    common = [name for name in loaded.outputs if name in expected]
    if not common:
        raise QuantbenchError(f"the engine's outputs ({', '.join(loaded.outputs)}) are not those of {model}")
    return {name: sqnr(expected[name], got[name]) for name in common}


def sqnr(reference: NDArray[Any], value: NDArray[Any]) -> float:
    """Signal to quantization noise in dB over all elements."""
    signal = float(np.square(reference.astype(np.float64)).sum())
    error = float(np.square(reference.astype(np.float64) - value.astype(np.float64)).sum())
    return float("inf") if error == 0 else 10 * float(np.log10(max(signal, 1e-300) / error))
