"""Calls: what a model of any inputs is fed, one sample at a time, and their batches.

A call holds one array an input, with its first axis as the model has it. Inputs that are the same for the whole batch
(a scalar, an anchor table) are `shared`; all others hold one sample, so that calls of one shape make a batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quantbench.data.array_calls import ArrayCalls
from quantbench.data.shard_calls import ShardCalls
from quantbench.data.tensor_inputs import Call, TensorInput, fitted
from quantbench.errors import QuantbenchError
from quantbench.images.decode import BadImageError
from quantbench.images.source import Source, combined_sha256, text_sha256
from quantbench.images.stream import NothingUsableError
from quantbench.images.truth import Label


class Calls(Protocol):
    """Samples for a model of any inputs."""

    @property
    def shared(self) -> frozenset[str]:
        """Inputs that one array serves for a whole batch."""
        ...

    def __len__(self) -> int: ...

    def call(self, index: int) -> Call:
        """One sample: an array an input, of the model's dtypes. Raises BadImageError where it cannot be read."""
        ...

    def name(self, index: int) -> str:
        """Name for messages and reports."""
        ...

    def label(self, index: int) -> Label:
        """Class number or None."""
        ...

    def sha256(self) -> str:
        """Hash of all contents and names (hexadecimal)."""
        ...


@dataclass(frozen=True)
class Joined:
    """One source an input, the i-th sample of each together; a source of one sample serves all others.

    `order[name][i]` is the index in the source of `name` that belongs to sample i.
    """

    inputs: tuple[TensorInput, ...]
    sources: Mapping[str, Source]
    order: Mapping[str, tuple[int, ...]]

    @property
    def shared(self) -> frozenset[str]:
        """Inputs that have one sample where others have more, and no batch axis to repeat it on."""
        return frozenset(e.name for e in self.inputs if self._lone(e))

    def __len__(self) -> int:
        return max(len(indices) for indices in self.order.values())

    def call(self, index: int) -> Call:
        """Each source's sample, with the batch axis that the model's input has."""
        found: Call = {}
        for entry in sorted(self.inputs, key=self._lone):
            own = self.order[entry.name]
            place = own[index if len(own) > 1 else 0]
            source = self.sources[entry.name]
            array = source.load(place)
            if not (self._lone(entry) and entry.fits(array.shape, batch=False)):
                array = array[None]
            found[entry.name] = fitted(entry, array, source.name(place))
        return found

    def name(self, index: int) -> str:
        """Name of the first source's sample."""
        first = self.inputs[0].name
        own = self.order[first]
        return self.sources[first].name(own[index if len(own) > 1 else 0])

    def label(self, index: int) -> Label:
        """The first label that a source has."""
        for name, source in self.sources.items():
            own = self.order[name]
            found = source.label(own[index if len(own) > 1 else 0])
            if found is not None:
                return found
        return None

    def sha256(self) -> str:
        """Hash of all sources and of which sample goes with which."""
        parts = [(source.sha256(), name) for name, source in self.sources.items()]
        return combined_sha256([*parts, (text_sha256(repr(sorted(self.order.items()))), "order")])

    def _lone(self, entry: TensorInput) -> bool:
        return len(self.order[entry.name]) == 1 < len(self)


def joined(inputs: tuple[TensorInput, ...], sources: Mapping[str, Source]) -> Joined:
    """Pair the samples of `sources` by the names of their files where these agree, else by order.

    Raises QuantbenchError where the numbers differ and names do not pair them.
    """
    lengths = {name: len(source) for name, source in sources.items()}
    several = {name: count for name, count in lengths.items() if count > 1} or lengths
    stems = {name: [_stem(sources[name].name(i)) for i in range(count)] for name, count in several.items()}
    first = next(iter(several))
    common = set(stems[first]).intersection(*(set(own) for own in stems.values()))
    by_name = all(len(set(own)) == len(own) for own in stems.values()) and len(common) > 0
    order: dict[str, tuple[int, ...]] = dict.fromkeys(sources, (0,))
    if by_name and (len(common) == max(several.values()) or len(set(several.values())) > 1):
        wanted = [stem for stem in stems[first] if stem in common]
        lone = next(((n, s) for n, own in stems.items() for s in own if s not in common), None)
        if lone is not None:
            raise QuantbenchError(
                f"sample {lone[1]!r} of input {lone[0]!r} has no partner in the other inputs; remove it"
            )
        for name, own in stems.items():
            place = {stem: index for index, stem in enumerate(own)}
            order[name] = tuple(place[stem] for stem in wanted)
    elif len(set(several.values())) > 1:
        shown = ", ".join(f"{name} {count}" for name, count in several.items())
        raise QuantbenchError(f"inputs have different numbers of samples ({shown}) and no names that pair them")
    else:
        order |= {name: tuple(range(count)) for name, count in several.items()}
    return Joined(inputs, sources, order)


@dataclass(frozen=True)
class SomeCalls:
    """Some of the samples, in the order of `indices`."""

    whole: Calls
    indices: tuple[int, ...]

    @property
    def shared(self) -> frozenset[str]:
        """As the whole's."""
        return self.whole.shared

    def __len__(self) -> int:
        return len(self.indices)

    def call(self, index: int) -> Call:
        """As the whole's `call`."""
        return self.whole.call(self.indices[index])

    def name(self, index: int) -> str:
        """As the whole's `name`."""
        return self.whole.name(self.indices[index])

    def label(self, index: int) -> Label:
        """As the whole's `label`."""
        return self.whole.label(self.indices[index])

    def sha256(self) -> str:
        """Hash of the samples that were chosen, where the whole can tell them, else of the whole and the choice."""
        if isinstance(self.whole, (ArrayCalls, ShardCalls)):
            return self.whole.sha256_of(self.indices)
        return combined_sha256([(self.whole.sha256(), "whole"), (text_sha256(repr(self.indices)), "indices")])


def call_batches(calls: Calls, batch_size: int, *, max_bad: int = 0) -> Iterator[tuple[Call, tuple[Label, ...]]]:
    """Feeds of up to `batch_size` samples of one shape each, with the samples' labels, in order.

    A shape that changes begins a new batch, so that data of several sizes pass in one run. Raises QuantbenchError for
    more than `max_bad` samples that cannot be read.
    """
    waiting: list[Call] = []
    labels: list[Label] = []
    bad = 0
    for index in range(len(calls)):
        try:
            one = calls.call(index)
        except BadImageError as error:
            bad += 1
            if bad > max_bad:
                raise QuantbenchError(f"{bad} samples cannot be used; the last: {error} (--max-bad)") from error
            continue
        if waiting and (len(waiting) == batch_size or not _alike(waiting[0], one, calls.shared)):
            yield _stacked(waiting, calls.shared), tuple(labels)
            waiting, labels = [], []
        waiting.append(one)
        labels.append(calls.label(index))
    if not waiting:
        raise NothingUsableError("no sample can be used" if bad else "there are no samples")
    yield _stacked(waiting, calls.shared), tuple(labels)


def _alike(first: Call, second: Call, shared: frozenset[str]) -> bool:
    return all(
        np.array_equal(array, second[name]) if name in shared else array.shape[1:] == second[name].shape[1:]
        for name, array in first.items()
    )


def _stacked(calls: Sequence[Call], shared: frozenset[str]) -> dict[str, NDArray[Any]]:
    first = calls[0]
    # An input that grows with the batch comes first: its first axis tells everyone how many samples there are.
    names = sorted(first, key=lambda name: name in shared)
    if len(calls) == 1:
        return {name: first[name] for name in names}
    return {name: first[name] if name in shared else np.concatenate([call[name] for call in calls]) for name in names}


def _stem(name: str) -> str:
    return Path(name.partition("[")[0]).stem + name[len(name.partition("[")[0]) :]
