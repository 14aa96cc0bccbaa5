"""The networks that `auto` compares: batches cut for two cores, or whole where outputs do not grow with the batch."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quantbench.core.bench import FloatNetwork
from quantbench.graph.load import load_model
from quantbench.ort import create_session
from tests.ptq.small_run import write_model


def with_mean(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` that also gives the mean over the whole batch, as no part of a batch does."""
    model.graph.node.append(helper.make_node("ReduceMean", ["y"], ["mean"], "mean", axes=[0], keepdims=1))
    model.graph.output.append(helper.make_tensor_value_info("mean", TensorProto.FLOAT, None))
    return model


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_outputs_are_those_of_whole_batches(tmp_path: Path, whole: bool, threads: int) -> None:
    model = load_model(write_model(tmp_path / "m.onnx"))
    model = with_mean(model) if whole else model
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.normal(size=(count, 3, 8, 8)).astype(np.float32)} for count in (8, 8, 3, 1)]
    session = create_session(model, threads=1)
    given = list(FloatNetwork(model, threads).outputs(feeds))
    assert [feed is before for (feed, _), before in zip(given, feeds, strict=True)] == [True] * 4
    for feed, outputs in given:
        for found, expected in zip(outputs, session.run(None, feed), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
