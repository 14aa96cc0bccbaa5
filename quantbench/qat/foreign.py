"""Models that another toolkit has quantized: NVIDIA ModelOpt, or pytorch-quantization in NVIDIA's containers."""

from torch import nn

_TOOLKITS = {"modelopt.torch": "NVIDIA ModelOpt", "pytorch_quantization": "pytorch-quantization"}


def foreign_quantizers(module: nn.Module) -> str:
    """Name of the toolkit whose quantizers are in `module`, "" for none.

    Both write Q/DQ through torch's legacy exporter, so such a model is exported as it is.
    """
    for inner in module.modules():
        if type(inner).__name__ != "TensorQuantizer":
            continue
        for package, name in _TOOLKITS.items():
            if type(inner).__module__.startswith(package):
                return name
    return ""
