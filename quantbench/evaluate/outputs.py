"""Float against INT8 on the same images: argmax agreement, top-1 and top-5, SQNR of the outputs. Streaming."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantbench.calibration.ort_outputs import Feed
from quantbench.evaluate.detections import BoxComparison
from quantbench.evaluate.statistics import paired_difference, share, sqnr_db
from quantbench.images.truth import Label, Truth
from quantbench.records.evaluation import Measured

Run = Callable[[Feed], Sequence[NDArray[Any]]]


@dataclass
class OutputComparison:
    """Running comparison; `update` takes one batch, `result` says what was found so far."""

    _signal: list[NDArray[np.float64]] = field(default_factory=list)
    _noise: list[NDArray[np.float64]] = field(default_factory=list)
    _agree: list[NDArray[np.bool_]] = field(default_factory=list)
    _top: dict[str, list[NDArray[np.bool_]]] = field(default_factory=dict)

    def update(
        self, reference: Sequence[NDArray[Any]], quantized: Sequence[NDArray[Any]], labels: Sequence[Label]
    ) -> None:
        """Add one batch: outputs [N, ...] of both models and a label (or None) an image."""
        pairs = [(a, b) for a, b in zip(reference, quantized, strict=True) if np.issubdtype(a.dtype, np.floating)]
        count = len(labels)
        signal, noise = np.zeros(count), np.zeros(count)
        for a, b in pairs:
            if a.shape[:1] == (count,):
                wide = a.reshape(count, -1).astype(np.float64)
                signal += (wide**2).sum(axis=1)
                noise += ((wide - b.reshape(count, -1)) ** 2).sum(axis=1)
        self._signal.append(signal)
        self._noise.append(noise)
        if len(pairs) == 1 and is_logits(pairs[0][0]):
            self._classes(pairs[0][0].reshape(count, -1), pairs[0][1].reshape(count, -1), labels)

    def _classes(self, a: NDArray[Any], b: NDArray[Any], labels: Sequence[Label]) -> None:
        self._agree.append(a.argmax(axis=1) == b.argmax(axis=1))
        known = np.array([label is not None and not isinstance(label, Truth) for label in labels])
        if not known.any():
            return
        truth = np.array([label for label, has in zip(labels, known, strict=True) if has])
        for model, values in (("float", a[known]), ("int8", b[known])):
            order = np.argsort(-values, axis=1, kind="stable")[:, :5]
            hit = order == truth[:, None]
            self._top.setdefault(f"top1_{model}", []).append(hit[:, 0])
            if values.shape[1] > 5:
                self._top.setdefault(f"top5_{model}", []).append(hit.any(axis=1))

    def result(self) -> dict[str, Measured]:
        """Keys: sqnr_db, and where outputs are logits agreement, top1_float, top1_int8, top1_change, top5_…"""
        found = {"sqnr_db": sqnr_db(np.concatenate(self._signal), np.concatenate(self._noise))}
        if self._agree:
            agree = np.concatenate(self._agree)
            found["agreement"] = share(int(agree.sum()), len(agree))
        hits = {name: np.concatenate(parts) for name, parts in self._top.items()}
        for name, values in hits.items():
            found[name] = share(int(values.sum()), len(values))
        if "top1_float" in hits:
            found["top1_change"] = paired_difference(hits["top1_float"], hits["top1_int8"])
        return found


def is_logits(output: NDArray[Any]) -> bool:
    """Whether an output is one vector of class scores an image: [N, K] or [N, K, 1, 1] with K > 1."""
    return output.ndim >= 2 and output.shape[1] > 1 and int(np.prod(output.shape[2:])) == 1


def compare_outputs(
    reference: Run,
    quantized: Run,
    batches: Iterable[tuple[Feed, Sequence[Label]]],
    *,
    boxes: BoxComparison | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> dict[str, Measured]:
    """Run both models over all `batches` of (feed, labels) and compare outputs; `boxes` compares boxes besides."""
    comparison = OutputComparison()
    for feed, labels in batches:
        a, b = reference(feed), quantized(feed)
        comparison.update(a, b, labels)
        if boxes is not None:
            boxes.update(a, b, labels)
        if on_batch:
            on_batch(len(labels))
    return {**comparison.result(), **(boxes.result() if boxes is not None else {})}
