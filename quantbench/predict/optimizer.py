"""The passes in TensorRT's order (trt852 log and yolov8 log, line by line)."""

from quantbench.predict.net import Net
from quantbench.predict.passes import (
    activations,
    clean,
    const_fold_dangling,
    const_qdq,
    const_weights,
    const_weights_quantize,
    conv_activation,
    conv_pool,
    conv_scale,
    conv_sum,
    dq_forward,
    fc_to_conv,
    foreign,
    in_place,
    merge_layers,
    merge_q,
    pointwise,
    q_backward,
    qdq_to_copy,
    quantize_double,
    quantize_single,
    residual_add,
    shapes,
    split_q,
)  # fmt: skip
from quantbench.predict.versions import Version


def optimize(net: Net, version: Version) -> None:
    """Rewrite `net` in place as TensorRT's optimizer would; `net.steps` tells what was done."""
    clean.run(net)
    shapes.run(net)
    const_qdq.run(net)
    foreign.run(net)
    activations.run(net)
    const_weights_quantize.run(net)
    dq_forward.run(net)
    _move_q(net, version)
    dq_forward.cancel(net)
    pointwise.run(net)
    conv_scale.run(net)
    conv_activation.run(net)
    activations.run(net)
    residual_add.run(net)
    quantize_double.run(net)
    quantize_single.run(net)
    const_weights.run(net)
    conv_sum.run(net)
    conv_pool.run(net)
    clean.remove_dead(net)
    const_fold_dangling.run(net)
    qdq_to_copy.run(net)
    fc_to_conv.run(net)
    merge_layers.run(net)
    in_place.run(net)


def _move_q(net: Net, version: Version) -> None:
    """Merging, splitting and moving open the way for one another; in the logs they run until nothing changes."""
    changed = True
    while changed:
        merged = merge_q.run(net, version.last_twin_stays)
        split = split_q.run(net)
        moved = q_backward.run(net)
        changed = merged or split or moved
