"""The processes of one calibration that torchrun started, on one host or on several that share the run folder.

They say nothing to each other. Each counts its share of the pieces into the run folder and then, as long as there are
some, what others have not done; the first adds all up and goes on alone. So nobody waits, and one that dies costs
those that are left its pieces.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quantbench.errors import QuantbenchError
from quantbench.ptq.pieces import Piece, PieceCounter, PieceStore


@dataclass(frozen=True, slots=True)
class Group:
    """Which process this is, of how many; which of how many on this host."""

    rank: int
    world: int
    place: int
    here: int

    def device(self, wanted: str) -> str:
        """`wanted`, where that is any card the one of this process."""
        return f"cuda:{self.place}" if wanted == "cuda" else wanted


def group() -> Group | None:
    """What torchrun says in the environment; None without it, and where it started one process alone."""
    numbers = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    if not all(number.isdecimal() for number in numbers) or int(numbers[1]) < 2:
        return None
    rank, world, place = map(int, numbers)
    return Group(rank, world, place, max(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1))


def order(own: Group, pieces: Sequence[Piece]) -> list[Piece]:
    """The share of this process, then those of the others from behind, where they come last."""
    mine = pieces[own.rank :: own.world]
    return [*mine, *(piece for piece in reversed(pieces) if piece not in mine)]


def count_share(todo: Sequence[Piece], store: PieceStore, counter: PieceCounter, over: Callable[[], bool]) -> int:
    """Count what nobody has counted of `todo` until all is `over`; how many pieces that were. Raises QuantbenchError as
    the counter does."""
    counted = 0
    for piece in todo:
        if over():
            break
        if store.has(piece):
            continue
        found = counter.count(piece, wanted=lambda piece=piece: not (store.has(piece) or over()))  # type: ignore[misc]
        if found is None:
            continue
        try:
            store.save(piece, *found)
        except QuantbenchError:
            if over():  # the first process has removed the folder of the pieces meanwhile
                break
            raise
        counted += 1
    return counted
