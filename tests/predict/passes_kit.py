"""Small networks for the tests of the passes, and what is looked at in their predictions."""

from quantbench.layers.layer import Layer
from quantbench.predict.prediction import Prediction
from quantbench.predict.simulate import predict
from tests.predict.qdq_networks import Draft

SIZE = (1, 32, 8, 8)


def predicted(d: Draft, *outputs: str, version: str = "10.9", gpu: str = "", fp16: bool = True) -> Prediction:
    inputs = tuple(name for name in ("x", "y") if name in d.tensors)
    return predict(d.view(inputs, outputs), version=version, gpu=gpu, scales=d.scales, fp16=fp16)


def image(channels: int = 32) -> tuple[Draft, str]:
    d = Draft()
    return d, d.tensor("x", (1, channels, 8, 8))


def float_conv(d: Draft, x: str, name: str, out: int = 32) -> str:
    weight = d.tensor(f"{name}.w", (out, d.shape(x)[1], 3, 3), constant=True)
    return d.node("Conv", [x, weight], (1, out, *d.shape(x)[2:]), name, kernel_shape=(3, 3))


def conv(d: Draft, x: str, name: str, out: int = 32) -> str:
    """A conv whose input has its DQ already."""
    weights = d.weights(f"{name}.w", (out, d.shape(x)[1], 3, 3), f"{name}.Qw", f"{name}.DQw")
    return d.node("Conv", [x, weights], (1, out, *d.shape(x)[2:]), name, kernel_shape=(3, 3))


def silu(d: Draft, x: str, name: str) -> str:
    return d.node("Mul", [x, d.node("Sigmoid", [x], d.shape(x), f"{name}.sigmoid")], d.shape(x), f"{name}.mul")


def names_of(prediction: Prediction) -> list[str]:
    return [layer.name for layer in prediction.layers]


def layer_with(prediction: Prediction, node: str) -> Layer:
    return next(layer for layer in prediction.layers if node in layer.nodes)


def dtypes_of(layer: Layer) -> tuple[list[str], list[str]]:
    return [t.dtype for t in layer.inputs], [t.dtype for t in layer.outputs]
