"""The card that a user names, as torch and onnxruntime have it."""

import torch
from onnx import TensorProto, helper

from quantbench.calibration.parts import MOST_BYTES
from quantbench.errors import QuantbenchError
from quantbench.ort_cuda import cuda_session, require_provider
from quantbench.qat.device_tensors import new_stream

_CPU_INSTEAD = "or calibrate on the CPU (--device cpu)"


def card(number: int) -> torch.device:
    """CUDA card `number`, on which torch and onnxruntime can compute: a network of one node is made there.

    Raises QuantbenchError, in one line, where there is no such card, or onnxruntime cannot use it.
    """
    if not torch.cuda.is_available():
        why = "sees no CUDA card; use a machine with one"
        if not torch.version.cuda:
            why = "is built without CUDA; install one that has it (pytorch.org/get-started)"
        raise QuantbenchError(f"torch {torch.__version__} {why}, {_CPU_INSTEAD}")
    require_number(number, torch.cuda.device_count())
    require_provider()
    device = torch.device("cuda", number)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "probe", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    cuda_session(model, number, new_stream(device).cuda_stream)
    return device


def require_number(number: int, count: int) -> None:
    """Raise QuantbenchError where `number` is none of `count` cards."""
    if number >= count:
        there = "cuda:0 alone" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise QuantbenchError(f"there is no card cuda:{number}; this machine has {there}")


def room(device: torch.device) -> int:
    """Bytes that the counted activations of a run may take on `device`: a quarter of what a card has free, for
    onnxruntime holds as much again for itself; on a CPU what `calibration.parts` says."""
    if device.type != "cuda":
        return MOST_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return max(int(free) // 4, 1)
