"""Shape arithmetic: what is computed from shapes alone is known before the engine runs, and is no layer of it."""

from quantbench.predict.net import Net

_SOURCES = frozenset({"Shape", "Size"})
_DTYPES = frozenset({"int64", "int32", "bool"})


def run(net: Net) -> None:
    """Turn the results of Shape, and of integer arithmetic on them and on constants, into constants.

    TensorRT folds them while parsing where dimensions are fixed, and computes them on the host where they are not.
    """
    for op in net.ops:
        known = op.kind in _SOURCES or (bool(op.inputs) and all(t in net.constants for t in op.inputs))
        if known and not op.is_dq and not any(o in net.outputs for o in op.outputs) and _integers(net, op.outputs):
            net.step("shape arithmetic", "remove", op.name)
            net.remove(op)
            net.constants.update(op.outputs)


def _integers(net: Net, tensors: list[str]) -> bool:
    views = [net.tensors.get(tensor) for tensor in tensors]
    return all(view is not None and view.dtype in _DTYPES for view in views)
