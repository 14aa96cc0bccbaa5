"""What NVIDIA's parser may crash on: a scalar or a matrix where ONNX has a list."""

from collections.abc import Iterator

from quantbench.graph.check_lists import odd_lists
from quantbench.lint.finding import Finding
from quantbench.lint.index import Index

RULE = "no-list"


def find(index: Index) -> Iterator[Finding]:
    """One finding for each node of `graph.check_lists`."""
    for node, what in odd_lists(index.model.graph):
        yield Finding(
            RULE, node.name, 0, f"{what}, and NVIDIA's parser may crash on it",
            "export the model again, or leave out a Slice that cuts nothing",
        )  # fmt: skip
