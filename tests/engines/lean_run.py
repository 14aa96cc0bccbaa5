"""Run in a process with the bindings of a lean or dispatch runtime: an engine is loaded and run through them."""

import json
import sys
from typing import Any

import numpy as np

from quantbench.engines import tensorrt_load, tensorrt_session
from tests.engines.host_device import HostDevice
from tests.engines.replica import Contract


def contract_of(trt: Any) -> Contract:
    names = iter(["x", "y"])
    modes = iter([trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT])
    return Contract(
        trt,
        {
            "ICudaEngine.num_io_tensors": 2,
            "ICudaEngine.get_tensor_name": lambda: next(names),
            "ICudaEngine.get_tensor_mode": lambda: next(modes),
            "ICudaEngine.get_tensor_dtype": trt.DataType.FLOAT,
            "ICudaEngine.get_tensor_shape": (-1, 2),
            "ICudaEngine.get_tensor_profile_shape": [(1, 2), (4, 2), (8, 2)],
            "IExecutionContext.get_tensor_shape": (4, 2),
            "IExecutionContext.active_optimization_profile": 0,
        },
    )


def main(kind: str) -> None:
    trt = tensorrt_load.load(kind)
    contract = contract_of(trt)
    loaded = tensorrt_session.LoadedEngine(contract.module(), b"engine", HostDevice(), host_code=True)
    feed = {"x": np.arange(8, dtype=np.float32).reshape(loaded.opt_shape("x"))}
    outputs = loaded.context().run(feed)
    print(json.dumps({
        "version": trt.__version__, "title": loaded.title, "builder": hasattr(trt, "Builder"),
        "outputs": {name: array.shape for name, array in outputs.items()}, "used": sorted(contract.used),
    }))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])
