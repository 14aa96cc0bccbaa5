"""FP16 and BF16 models: worked on as FP32, written back as they came, legal for the checker and for onnxruntime."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from quantbench.calibration.collect import collect, maxima_of
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.core.quantize import for_onnxruntime
from quantbench.graph.load import load_model
from quantbench.graph.onnx_view import view_of
from quantbench.graph.save import save_model
from quantbench.graph.to_fp16 import to_fp16
from quantbench.ort import create_session
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.place import place
from quantbench.qdq.tensors import calibrated_tensors
from tests.graph import networks

IMAGES = np.random.default_rng(2).normal(size=(1, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("name", sorted(networks.HALF))
def test_half_models_are_quantized_and_written_as_they_came(name: str, tmp_path: Path) -> None:
    """Each failed on an output that quantbench itself declared float, or had a Q that opset 17 does not allow."""
    source = networks.HALF[name]()
    onnx.save(source, str(tmp_path / "m.onnx"))
    model = load_model(tmp_path / "m.onnx")
    view = view_of(model)
    plan = place(view)
    assert {site.node for site in plan.weights} == {"a", "b"}
    maxima = maxima_of(collect(model, [{"x": IMAGES}], calibrated_tensors(view, plan)))
    quantized = insert_qdq(model, plan, Ranges({tensor: TensorRange(amax) for tensor, amax in maxima.items()}))
    save_model(quantized, tmp_path / "q.onnx")
    save_model(for_onnxruntime(quantized), tmp_path / "ort.onnx")
    written = onnx.load(str(tmp_path / "q.onnx"))
    onnx.checker.check_model(written, full_check=True)
    for kind in ("input", "output"):
        before, after = (getattr(m.graph, kind)[0].type.tensor_type.elem_type for m in (source, written))
        assert after == before
    half = {t.name: t.data_type for t in source.graph.initializer if t.data_type != TensorProto.FLOAT}
    kept = {t.name: t.data_type for t in written.graph.initializer}
    assert {n: kept[n] for n in half if n in kept and n.endswith(".w")} == {
        n: half[n] for n in half if n in kept and n.endswith(".w")
    }
    assert not [p.key for p in written.metadata_props]
    (expected,) = create_session(model).run(None, {"x": IMAGES})
    (got,) = create_session(tmp_path / "ort.onnx").run(None, {"x": IMAGES})
    assert np.abs(got - expected).max() < 0.1 * np.abs(expected).max()


def test_what_was_float_on_purpose_stays_float(tmp_path: Path) -> None:
    onnx.save(networks.half_with_float_part(), str(tmp_path / "m.onnx"))
    save_model(load_model(tmp_path / "m.onnx"), tmp_path / "again.onnx")
    again = onnx.load(str(tmp_path / "again.onnx"))
    types = {t.name: t.data_type for t in again.graph.initializer}
    assert types["b.w"] == TensorProto.FLOAT
    assert types["a.w"] == types["c.w"] == TensorProto.FLOAT16
    inputs = {"x": IMAGES.astype(np.float16)}
    first, second = (create_session(tmp_path / f"{n}.onnx").run(None, inputs)[0] for n in ("m", "again"))
    assert np.abs(first.astype(np.float32) - second).max() < 5e-3


def test_a_float_model_is_left_alone() -> None:
    from quantbench.graph.half import as_float, half_of

    model = networks.plain()
    assert as_float(model) is model
    assert half_of(model) is None


@pytest.mark.parametrize("elem", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_weights_only_stored_in_half_leave_no_cast_beside_qdq(elem: int, tmp_path: Path) -> None:
    """Q and DQ were half here, with a Cast between DQ and Conv that keeps a compiler from computing in INT8."""
    onnx.save(networks.stored_in_half(elem), str(tmp_path / "m.onnx"))
    model = load_model(tmp_path / "m.onnx")
    view = view_of(model)
    plan = place(view)
    maxima = maxima_of(collect(model, [{"x": IMAGES}], calibrated_tensors(view, plan)))
    quantized = insert_qdq(model, plan, Ranges({tensor: TensorRange(amax) for tensor, amax in maxima.items()}))
    save_model(quantized, tmp_path / "q.onnx")
    written = onnx.load(str(tmp_path / "q.onnx")).graph
    makers = {out: node.op_type for node in written.node for out in node.output}
    convs = [node for node in written.node if node.name in ("a", "b")]
    fed = [makers.get(name) for node in convs for name in node.input[:2]]
    assert fed == ["DequantizeLinear"] * 4
    scales = {node.input[1] for node in written.node if node.op_type == "DequantizeLinear"}
    assert {t.data_type for t in written.initializer if t.name in scales} == {TensorProto.FLOAT}


def test_weights_only_stored_in_half_are_no_wish_for_float(tmp_path: Path) -> None:
    onnx.save(networks.stored_in_half(TensorProto.FLOAT16), str(tmp_path / "m.onnx"))
    half = to_fp16(load_model(tmp_path / "m.onnx"))
    assert {t.data_type for t in half.graph.initializer if t.name.endswith(".w")} == {TensorProto.FLOAT16}
    makers = {out: node.op_type for node in half.graph.node for out in node.output}
    assert "Cast" not in {
        makers.get(name) for node in half.graph.node if node.op_type == "Conv" for name in node.input[1:]
    }
