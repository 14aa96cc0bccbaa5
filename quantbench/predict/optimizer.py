"""The passes in TensorRT's order (trt852, 8.6.0 and 10.9 logs, line by line)."""

from quantbench.predict.net import Net
from quantbench.predict.passes import blackwell, cleanup, epilogue, fusions, memory, motions, myelin, quantize
from quantbench.predict.versions import Version


def optimize(net: Net, version: Version) -> None:
    """Rewrite `net` in place as TensorRT's optimizer would; `net.steps` tells what was done."""
    cleanup.run(net)
    cleanup.fuse_shuffles(net)
    myelin.run(net, version)
    fusions.relu(net)
    quantize.constant_weights(net)
    motions.run(net, version)
    fusions.pointwise(net)
    fusions.scales(net, version)
    fusions.conv_activation(net, version)
    fusions.relu(net)
    quantize.run(net, version)
    epilogue.sums_and_pools(net, version)
    if version.whole_network_in_myelin:
        blackwell.run(net)
    cleanup.remove_dead(net)
    cleanup.fold_dangling(net)
    epilogue.leftovers(net)
    epilogue.transforms(net)
    memory.in_place(net)
