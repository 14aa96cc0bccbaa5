"""Batches side by side: in order, no more at once than asked for, the same figures, and errors where they belong."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from quantbench.calibration.ort_outputs import runner
from quantbench.demo import resnet18
from quantbench.evaluate.outputs import compare_outputs, measures_of
from quantbench.ort import create_session
from quantbench.side_by_side import Sharing, in_order, in_pairs, in_turn, shared_out


def test_two_run_at_once_and_come_in_order() -> None:
    both = threading.Barrier(2, timeout=20)

    def work(item: int) -> int:
        both.wait()  # neither gets on alone
        return item * item

    assert list(in_order(range(6), work, 2)) == [0, 1, 4, 9, 16, 25]


@pytest.mark.parametrize("at_a_time", [1, 2, 3])
def test_no_item_is_taken_before_one_is_done(at_a_time: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(8):
            taken.append(item)
            yield item

    for done, item in enumerate(in_order(items(), lambda item: item, at_a_time)):
        assert item == done
        assert len(taken) <= done + at_a_time


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_an_error_is_raised_in_its_place(at_a_time: int) -> None:
    found = in_order([2, 1, 0, 4], lambda item: 4 // item, at_a_time)
    assert [next(found), next(found)] == [2, 4]
    with pytest.raises(ZeroDivisionError):
        next(found)


@pytest.mark.parametrize("at_a_time", [1, 2, 3])
def test_what_comes_then_comes_in_turn(at_a_time: int) -> None:
    """Work that ends early waits for its turn; nothing of two items is done at once."""
    order: list[int] = []
    alone = threading.Lock()

    def then(found: int) -> int:
        assert alone.acquire(blocking=False)
        order.append(found)
        alone.release()
        return found + 1

    def work(item: int) -> int:
        time.sleep(0.01 if item % at_a_time == 0 else 0.0)
        return item

    assert list(in_turn(range(9), work, then, at_a_time)) == list(range(1, 10))
    assert order == list(range(9))


@pytest.mark.parametrize("where", ["work", "then"])
def test_nobody_waits_for_a_turn_that_never_comes(where: str) -> None:
    def failing(name: str, item: int) -> int:
        return 4 // item if name == where else item

    found = in_turn([2, 1, 0, 4, 5], lambda item: failing("work", item), lambda item: failing("then", item), 2)
    assert [next(found), next(found)] == [2, 4]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_as_many_samples_are_in_flight_as_before() -> None:
    assert shared_out(2, 8) == Sharing(batches=2, size=4, threads=1)
    assert shared_out(16, 8) == Sharing(batches=8, size=1, threads=2)
    assert shared_out(2, 1) == Sharing(batches=1, size=1, threads=2)
    assert shared_out(1, 8) == Sharing(batches=1, size=8, threads=1)
    assert shared_out(3, 8) == Sharing(batches=3, size=3, threads=1)
    assert shared_out(16, 8, fixed=4) == Sharing(batches=2, size=4, threads=8)
    assert shared_out(16, 8, fixed=8) == Sharing(batches=1, size=8, threads=16)
    assert in_pairs(2, 8) == Sharing(batches=2, size=2, threads=1)
    assert in_pairs(16, 8) == Sharing(batches=2, size=4, threads=8)
    assert in_pairs(2, 1) == Sharing(batches=1, size=1, threads=2)
    assert in_pairs(1, 8) == Sharing(batches=1, size=2, threads=1)
    assert in_pairs(2, 8, fixed=16) == Sharing(batches=1, size=16, threads=2)


def test_the_figures_of_an_evaluation_are_the_same() -> None:
    model = resnet18.build(width=8, size=32, classes=10)
    other = resnet18.build(width=8, size=32, classes=10, seed=1)
    images = np.random.default_rng(0).normal(size=(12, 3, 32, 32)).astype(np.float32)
    plain, second = (runner(create_session(one, threads=1), 0) for one in (model, other))
    alone = compare_outputs(plain, second, [({"image": images[i : i + 6]}, [None] * 6) for i in (0, 6)])
    batches = [({"image": images[i : i + 3]}, [None] * 3) for i in range(0, 12, 3)]
    beside = compare_outputs(plain, second, batches, at_a_time=2)
    assert measures_of(beside) == measures_of(alone)
    assert beside.images == alone.images == 12
