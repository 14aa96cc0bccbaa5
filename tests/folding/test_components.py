"""Components of channels that are scaled alike, against scipy's: the same, in the same order."""

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from quantbench.folding.channels import components


@pytest.mark.parametrize(("count", "joined"), [(1, 0), (3, 0), (10, 4), (500, 100), (500, 250), (500, 499), (50, 900)])
@pytest.mark.parametrize("shape", ["random", "ring", "chain back"])
def test_components_are_those_of_scipy(count: int, joined: int, shape: str) -> None:
    first = np.arange(joined) % count
    edges = {
        "random": np.random.default_rng(joined).integers(0, count, (2, joined)),
        "ring": np.stack([first, (first + 7) % count]),
        "chain back": np.stack([count - 1 - first, np.maximum(count - 2 - first, 0)]),
    }[shape]
    graph = coo_matrix((np.ones(joined, np.int8), (edges[0], edges[1])), shape=(count, count))
    expected = connected_components(graph, directed=False)[1]
    halves = [edges[:, : joined // 2], edges[:, joined // 2 :]]
    np.testing.assert_array_equal(components(halves, count), expected)


def test_without_edges_each_stands_alone() -> None:
    assert components([], 3).tolist() == [0, 1, 2]
