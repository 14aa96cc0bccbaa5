"""The calibrator class that `quantbench build` names, on data in any form that `ptq` takes."""

from pathlib import Path

from quantbench.calibrator import Calibrator, load_calibrator
from quantbench.data.sources import feeds
from quantbench.engines.network_function import is_network_function
from quantbench.errors import QuantbenchError
from quantbench.graph.load import read_model
from quantbench.ptq.data_sources import calibration_data
from quantbench.ptq.request import DataChoice


def given_calibrator(model: Path, spec: str, data: DataChoice, batch: int) -> Calibrator | None:
    """The calibrator `spec` on `data`, in batches of `batch`.

    Without data: the class on its own where it overrides `get_batch`, else None. Raises QuantbenchError where the data
    do not fit the model.
    """
    found = load_calibrator(spec)
    if data.calib_dir is None and not data.inputs:
        return found() if found.get_batch is not Calibrator.get_batch else None
    if is_network_function(model):
        raise QuantbenchError(
            f"--calib-data wants an ONNX file; for {model} give a class with its own data, --calibrator file.py:Class, "
            f"or --ranges"
        )
    # As it stands: TensorRT 10 calibrates models with plugins as well, which quantbench itself cannot run.
    loaded = read_model(model)
    source = calibration_data(loaded, str(model), data).source
    stored = {tensor.name for tensor in loaded.graph.initializer}
    first = next(value.name for value in loaded.graph.input if value.name not in stored)
    return found(lambda: feeds(source, first, batch), batch)
