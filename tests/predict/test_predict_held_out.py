"""Engines that the passes were not written from: quoted layer by layer from NVIDIA/TensorRT's repository.

Engine Explorer's A100 `resnet-qat-residual-qgap` (tools/experimental/trt-engine-explorer/examples/pytorch/resnet/A100/
qat-residual-qgap, commit 768d994b, from layer4.0.conv2 on) and `mobilenet_v2_residuals.qat` (tests/inputs, commit
7a07608d, the first 16 and the last 8 layers); Apache-2.0. A line is: layer, dtypes of its inputs, dtype of its output.
"""

import pytest

from quantbench.layers.names import reformat_target, split_parts
from quantbench.predict.simulate import predict
from tests.predict.qdq_networks import mobilenet_v2, resnet18

QGAP = """
layer4.0.conv2.weight + QuantizeLinear_240 + Conv_242 + Add_261 + Relu_262 | i i | i
layer4.1.conv1.weight + QuantizeLinear_270 + Conv_272 | i | i
layer4.1.conv2.weight + QuantizeLinear_282 + Conv_284 + Add_292 + Relu_293 | i i | i
GlobalAveragePool_300 | i | i
fc.weight + QuantizeLinear_309 + Gemm_311 | i | f
"""
MOBILENET_RESIDUALS = """
QuantizeLinear_2 | f | i
features.0.0.weight + QuantizeLinear_7 + Conv_9 + PWN(Clip_13) | i | i
features.1.conv.0.0.weight + QuantizeLinear_21 + Conv_23 + PWN(Clip_27) | i | i
features.1.conv.1.weight + QuantizeLinear_35 + Conv_37 | i | i
features.2.conv.0.0.weight + QuantizeLinear_46 + Conv_48 + PWN(Clip_52) | i | i
features.2.conv.1.0.weight + QuantizeLinear_60 + Conv_62 + PWN(Clip_66) | i | i
features.2.conv.2.weight + QuantizeLinear_74 + Conv_76 | i | i
features.3.conv.0.0.weight + QuantizeLinear_91 + Conv_93 + PWN(Clip_97) | i | i
features.3.conv.1.0.weight + QuantizeLinear_105 + Conv_107 + PWN(Clip_111) | i | i
features.3.conv.2.weight + QuantizeLinear_119 + Conv_121 + Add_123 | i i | i
features.4.conv.0.0.weight + QuantizeLinear_131 + Conv_133 + PWN(Clip_137) | i | i
features.4.conv.1.0.weight + QuantizeLinear_145 + Conv_147 + PWN(Clip_151) | i | i
features.4.conv.2.weight + QuantizeLinear_159 + Conv_161 | i | i
features.5.conv.0.0.weight + QuantizeLinear_176 + Conv_178 + PWN(Clip_182) | i | i
features.5.conv.1.0.weight + QuantizeLinear_190 + Conv_192 + PWN(Clip_196) | i | i
features.5.conv.2.weight + QuantizeLinear_204 + Conv_206 + Add_208 | i i | i
features.17.conv.0.0.weight + QuantizeLinear_701 + Conv_703 + PWN(Clip_707) | i | i
features.17.conv.1.0.weight + QuantizeLinear_715 + Conv_717 + PWN(Clip_721) | i | i
features.17.conv.2.weight + QuantizeLinear_729 + Conv_731 | i | i
features.18.0.weight + QuantizeLinear_740 + Conv_742 + PWN(Clip_746) | i | f
Reformatting CopyNode for Input Tensor 0 to GlobalAveragePool_747 | f | f
GlobalAveragePool_747 | f | f
QuantizeLinear_757 | f | i
classifier.1.weight + QuantizeLinear_762 + Gemm_764 | i | f
"""


@pytest.mark.parametrize("name", ["qgap", "mobilenet"])
def test_layers_of_engines_that_nobody_looked_at_before(name: str) -> None:
    quoted, (view, scales) = {
        "qgap": lambda: (QGAP, resnet18(residual=True, pooling=True)),
        "mobilenet": lambda: (MOBILENET_RESIDUALS, mobilenet_v2(residuals=True)),
    }[name]()
    prediction = predict(view, version="8.4", scales=scales)
    mine = {_key(layer.name): layer for layer in prediction.layers}
    missed = []
    lines = quoted.strip().splitlines()
    for line in lines:
        text, inputs, output = line.split(" | ")
        layer = mine.get(_key(text))
        said = (
            (["i" if t.dtype == "INT8" else "f" for t in layer.inputs], layer.outputs[0].dtype) if layer else ([], "")
        )
        if layer is None or said != (inputs.split(), "INT8" if output == "i" else "FP32"):
            missed.append((text, said))
    print(f"held out {name}: {len(lines) - len(missed)} of {len(lines)}")
    assert not missed
    # Neither engine has another reformat between formats in what is quoted.
    reformats = [layer.name for layer in prediction.layers if layer.origin == "REFORMAT"]
    assert reformats == [text.split(" | ")[0] for text in lines if text.startswith("Reformatting")]
    left_over = {layer.name for layer in prediction.layers if layer.origin == "QDQ"}
    assert left_over == {"qgap": {"QuantizeLinear_2"}, "mobilenet": {"QuantizeLinear_2", "QuantizeLinear_757"}}[name]


def _key(name: str) -> tuple[bool, frozenset[str]]:
    return reformat_target(name) is not None, frozenset(split_parts(name))
