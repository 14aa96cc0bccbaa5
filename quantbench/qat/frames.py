"""Whose code is running: the stack of modules whose forward is under way, each with its count of calls by kind."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(slots=True)
class Frame:
    """One running forward: the module's name ("" is the model) and how many calls of each kind it has made."""

    module: str
    calls: Counter[str] = field(default_factory=Counter)

    def ordinal(self, kind: str) -> int:
        """Number of this call among those of its kind in this forward, from 0."""
        number = self.calls[kind]
        self.calls[kind] += 1
        return number


@contextmanager
def module_frames(model: nn.Module) -> Iterator[list[Frame]]:
    """While the context lasts, the yielded list holds the frames now running, outermost first."""
    stack: list[Frame] = []
    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(_Push(stack, name)))
        handles.append(module.register_forward_hook(_Pop(stack), always_call=True))
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()


class _Push:
    def __init__(self, stack: list[Frame], name: str) -> None:
        self.stack, self.name = stack, name

    def __call__(self, module: nn.Module, args: Any) -> None:
        self.stack.append(Frame(self.name))


class _Pop:
    def __init__(self, stack: list[Frame]) -> None:
        self.stack = stack

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        self.stack.pop()
