"""SplitQAcrossPrecedingFanIn: a Q behind a Concat is cloned into each branch (`Q_clone_N`)."""

from quantbench.predict.net import Net, Op

NAME = "SplitQAcrossPrecedingFanIn"


def run(net: Net) -> bool:
    """Split every Q that is the only reader of a Concat. True if any was split."""
    found = False
    for concat in net.of_kind("Concat"):
        q = net.only_reader(concat.out)
        if q is None or not q.is_q:
            continue
        net.step(NAME, "split", concat.name, q.name)
        net.remove(q)
        net.set_output(concat, q.out)
        for index, tensor in enumerate(concat.inputs):
            _clone(net, concat, q, index, tensor)
        found = True
    return found


def _clone(net: Net, concat: Op, q: Op, index: int, tensor: str) -> None:
    output = f"{concat.name}_{tensor}_clone_{index}"
    net.like(output, tensor)
    net.set_input(concat, index, output)
    name = f"{q.name}_clone_{index}"
    # Right before the Concat in network order, behind whatever feeds its branch.
    order = concat.order - 0.5 + index / 1000
    net.add(Op(q.kind, name, [tensor], [output], order, list(q.nodes), scale=q.scale, clone_of=q.clone_of or q.name))
