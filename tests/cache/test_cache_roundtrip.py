"""Model, cache, Q/DQ and back: no range is lost, and the road through a cache equals our own calibration."""

import numpy as np
import onnx
import pytest

from quantbench.cache import modelopt
from quantbench.cache.carry import PROPERTY
from quantbench.cache.from_qdq import from_qdq, layer_precisions_argument
from quantbench.cache.read import parse_bytes
from quantbench.cache.tensorrt import parse, render
from quantbench.cache.to_qdq import to_qdq
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.errors import QuantbenchError
from quantbench.graph.to_fp16 import to_bf16, to_fp16
from quantbench.ort import create_session
from quantbench.qdq.insert import insert_qdq
from quantbench.qdq.place import place
from quantbench.qdq.tensors import calibrated_tensors


def without_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.metadata_props[:]
    return copy


def run(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    return create_session(model, threads=1).run(None, feed)[0]


def test_same_scales_placement_and_outputs_as_our_own_calibration(case) -> None:
    plan = place(case.view)
    own = insert_qdq(case.model, plan, case.ranges)
    result = to_qdq(case.model, parse(render(case.ranges)))
    assert result.plan == plan
    assert without_metadata(result.model).SerializeToString(deterministic=True) == own.SerializeToString(
        deterministic=True
    )
    np.testing.assert_array_equal(run(result.model, case.feed), run(own, case.feed))
    # INT8 noise, so that the comparison above is not one of two float models.
    assert not np.array_equal(run(result.model, case.feed), run(case.model, case.feed))


def test_cache_of_a_run_covers_the_same_placement(case) -> None:
    plan = place(case.view)
    ranges = Ranges({name: case.ranges[name] for name in calibrated_tensors(case.view, plan)})
    result = to_qdq(case.model, parse(render(ranges)))
    assert result.plan == plan
    assert result.check.meaning.missing == ()


def test_cache_qdq_cache_gives_the_same_bytes(case) -> None:
    text = render(case.ranges, version="100300", algorithm="MinMaxCalibration")
    back = from_qdq(to_qdq(case.model, parse(text)).model)
    assert back.cache_text == text
    assert back.changed == ()
    np.testing.assert_array_equal(run(back.model, case.feed), run(case.model, case.feed))


@pytest.mark.parametrize("cast", [to_fp16, to_bf16])
def test_models_cast_to_half_precision_give_the_same_bytes(case, cast) -> None:
    quantized = to_qdq(case.model, parse(render(case.ranges))).model
    back = from_qdq(cast(quantized))
    assert back.cache_text == render(case.ranges)
    assert any("cast to FP16 or BF16" in note for note in back.notes)


def test_int8_weights_come_back_as_float_of_the_same_grid(case) -> None:
    quantized = to_qdq(case.model, parse(render(case.ranges)), int8_weights=True).model
    back = from_qdq(quantized)
    assert back.cache_text == render(case.ranges)
    again = insert_qdq(back.model, place(case.view), case.ranges)
    np.testing.assert_allclose(run(again, case.feed), run(quantized, case.feed), atol=1e-5)


def test_foreign_qdq_model_yields_every_scale_in_it_and_what_follows(case) -> None:
    plan = place(case.view)
    back = from_qdq(insert_qdq(case.model, plan, case.ranges))
    for tensor in plan.tensors:
        group = {site.group for site in plan.activations if site.tensor == tensor}
        amax = max(case.ranges[s.tensor].amax for s in plan.activations if s.group in group)
        assert back.ranges[tensor].scale == pytest.approx(amax / 127, rel=1e-6)
    assert back.carried == ()
    for item in back.derived:
        assert back.ranges[item.tensor].amax == back.ranges[item.source].amax


def test_trained_scale_wins_over_the_carried_one(resnet_case) -> None:
    model = to_qdq(resnet_case.model, parse(render(resnet_case.ranges))).model
    scale = next(t for t in model.graph.initializer if t.name == "image_scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.float32(0.5), scale.name))
    back = from_qdq(model)
    assert back.changed == ("image",)
    assert back.ranges["image"].scale == 0.5
    assert back.ranges["/relu/Relu_output_0"].scale == pytest.approx(resnet_case.ranges["/relu/Relu_output_0"].scale)


def test_missing_range_leaves_that_layer_float_and_says_so(case) -> None:
    full = place(case.view)
    victim = full.weights[2]
    tensor = next(s.tensor for s in full.activations if s.node == victim.node)
    # What could stand in for it goes too.
    kept = {n: r for n, r in case.ranges.tensors.items() if n != tensor and r.amax != case.ranges[tensor].amax}
    result = to_qdq(case.model, parse(render(Ranges(kept))))
    assert "no range for" in result.plan.kept_float[victim.node]
    assert victim.node not in {site.node for site in result.plan.weights}
    assert np.isfinite(run(result.model, case.feed)).all()


def test_infinite_range_counts_as_none(resnet_case) -> None:
    text = render(resnet_case.ranges).replace("\nimage: ", "\nimage: 7f800000 was ").split(" was ")
    text = text[0] + text[1][text[1].index("\n") :]
    result = to_qdq(resnet_case.model, parse(text))
    assert result.check.broken == ("image",)
    assert result.plan.kept_float["/conv1/Conv"] == "no range for image in the cache"


def test_layer_precisions_name_every_weighted_layer(case) -> None:
    result = to_qdq(case.model, parse(render(case.ranges)))
    back = from_qdq(result.model)
    quantized = {site.node for site in result.plan.weights}
    for node in case.view.nodes:
        if node.op in ("Conv", "Gemm"):
            assert back.precisions[node.name] == ("int8" if node.name in quantized else "fp16")
    argument, unspelled = layer_precisions_argument({"a/Conv": "int8", "b:0": "fp16", "c,d": "fp16"})
    assert (argument, unspelled) == ("a/Conv:int8", ("b:0", "c,d"))


def test_dla_gets_unit_scales_between_conv_and_add(resnet_case) -> None:
    plan = place(resnet_case.view)
    back = from_qdq(insert_qdq(resnet_case.model, plan, resnet_case.ranges), dla=True)
    parsed = parse(back.cache_text)
    assert parsed.by_name["/layer1/0/conv2/Conv_output_0"].spelled == "3f800000"
    assert parsed.by_name["/relu/Relu_output_0"].scale != 1.0


def test_model_that_is_not_the_caches_is_refused(resnet_case) -> None:
    with pytest.raises(QuantbenchError, match="0 of 1 entries match"):
        to_qdq(resnet_case.model, parse("TRT-8601-EntropyCalibration2\nnothing: 3c010204\n"))


def test_quantized_model_is_refused_and_float_model_too(resnet_case) -> None:
    cache = parse(render(resnet_case.ranges))
    with pytest.raises(QuantbenchError, match="holds Q/DQ nodes already"):
        to_qdq(to_qdq(resnet_case.model, cache).model, cache)
    with pytest.raises(QuantbenchError, match="holds no Q/DQ nodes"):
        from_qdq(resnet_case.model)


def test_model_on_integers_is_refused_by_node(resnet_case) -> None:
    from quantbench.core.quantize import for_onnxruntime

    model = for_onnxruntime(to_qdq(resnet_case.model, parse(render(resnet_case.ranges))).model)
    on_integers = [n for n in model.graph.node if n.op_type in ("Clip", "Max", "Relu")]
    assert on_integers
    with pytest.raises(QuantbenchError, match="computes on quantized integers"):
        from_qdq(model)


def test_broken_metadata_is_named(resnet_case) -> None:
    model = to_qdq(resnet_case.model, parse(render(resnet_case.ranges))).model
    next(p for p in model.metadata_props if p.key == PROPERTY).value = "{"
    with pytest.raises(QuantbenchError, match=r"quantbench\.cache"):
        from_qdq(model)


def test_zero_range_survives(resnet_case) -> None:
    ranges = Ranges({**resnet_case.ranges.tensors, "/relu/Relu_output_0": TensorRange(0.0)})
    text = render(ranges)
    assert "\n/relu/Relu_output_0: 0\n" in text
    assert from_qdq(to_qdq(resnet_case.model, parse(text)).model).cache_text == text


def test_two_modules_on_one_tensor_give_the_wider_range(resnet_case) -> None:
    """ModelOpt has a quantizer for each reader: here the first conv of a block and the shortcut beside it."""
    amax_of = {"layer2.0.conv1": 3.0, "layer2.0.downsample": 5.0, "conv1": 2.0}
    ranges = {f"{name}.input_quantizer": TensorRange(amax) for name, amax in amax_of.items()}
    result = to_qdq(resnet_case.model, parse_bytes(modelopt.render(Ranges(ranges))))
    shared = "/layer1/1/relu_1/Relu_output_0"
    assert result.check.meaning.ranges[shared].amax == pytest.approx(5.0)
    assert from_qdq(result.model).ranges[shared].amax == pytest.approx(5.0)
