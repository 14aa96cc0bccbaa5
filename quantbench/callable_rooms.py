"""Rooms that share their name with a public function: `quantbench.predict(model)` and `quantbench.predict.simulate`.

Python binds a package to its parent's name once anything in it is imported, whatever the parent says of that name. So
the package itself can be called.
"""

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any

_FUNCTIONS = "quantbench.api.functions"


class _CallableRoom(ModuleType):
    """A package that stands for the function of its name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    @property
    def _function(self) -> Any:
        return getattr(importlib.import_module(_FUNCTIONS), self.__name__.rpartition(".")[2])


def make_callable(name: str) -> None:
    """Let the package `name` be called as the public function of its last part."""
    sys.modules[name].__class__ = _CallableRoom
