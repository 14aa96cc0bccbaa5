"""Quantizers on calls that have no module of their own: residual adds, pooling, matmul, functional convs.

While a module with such calls runs its own code (not that of its children), its torch calls pass a mode that counts
them as the tracer did and hands the planned arguments through their quantizers.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from quantbench.qat.frames import Frame
from quantbench.qat.functions import SITE_KINDS, replace_arguments, tensor_arguments
from quantbench.qat.quantizer import TensorQuantizer, WeightQuantizer

# (kind, ordinal) -> argument number -> attribute of the module that is the quantizer.
Table = dict[tuple[str, int], dict[int, str]]


class _SiteMode(TorchFunctionMode):
    def __init__(self, module: nn.Module, table: Table) -> None:
        super().__init__()
        self.module, self.table, self.frame = module, table, Frame("")
        self.inside = 0  # how many children are running

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = SITE_KINDS.get(func)
        if kind is None:
            return func(*args, **kwargs)
        sites = self.table.get((kind, self.frame.ordinal(kind)))
        if sites:
            args, kwargs = self._quantized(sites, args, kwargs)
        return func(*args, **kwargs)

    def _quantized(self, sites: Mapping[int, str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = tensor_arguments(args, kwargs)
        new: dict[int, Tensor] = {}
        for argument, attribute in sites.items():
            if argument < len(given) and isinstance(given[argument], Tensor):
                new[argument] = getattr(self.module, attribute)(given[argument])
        return replace_arguments(args, kwargs, new)


class SiteRouter:
    """Hooks of one module and its children. Holds names only, so that copying and pickling the model just works."""

    def __init__(self) -> None:
        self.table: Table = {}
        self.active: list[Any] = []  # of _SiteMode; Any because torch leaves its context methods untyped

    def attach(self, module: nn.Module) -> None:
        """Put the hooks on `module` and on the children that its forward may call."""
        # A child may have a router too: the parent's mode must go before the child's comes, and return after it went.
        module.register_forward_pre_hook(self.enter)
        module.register_forward_hook(self.leave, prepend=True, always_call=True)
        for child in _callees(module):
            child.register_forward_pre_hook(self.enter_child, prepend=True)
            child.register_forward_hook(self.leave_child, always_call=True)

    def enter(self, module: nn.Module, args: Any) -> None:
        """The module starts: catch its calls."""
        mode: Any = _SiteMode(module, self.table)
        self.active.append(mode)
        mode.__enter__()

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """The module ends."""
        if self.active:
            self.active.pop().__exit__(None, None, None)

    def enter_child(self, module: nn.Module, args: Any) -> None:
        """A child starts: its calls are not the module's."""
        if self.active:
            mode = self.active[-1]
            mode.inside += 1
            if mode.inside == 1:
                mode.__exit__(None, None, None)

    def leave_child(self, module: nn.Module, args: Any, output: Any) -> None:
        """A child ends."""
        if self.active:
            mode = self.active[-1]
            mode.inside -= 1
            if mode.inside == 0:
                mode.__enter__()

    def __getstate__(self) -> dict[str, Any]:
        return {"table": self.table, "active": []}


def _callees(module: nn.Module) -> list[nn.Module]:
    """Children, and children of containers, whose elements a forward may call one by one."""
    found = []
    for child in module.children():
        if isinstance(child, (TensorQuantizer, WeightQuantizer)):
            continue  # called by the mode itself
        found.append(child)
        if isinstance(child, (nn.ModuleList, nn.ModuleDict, nn.Sequential)):
            found += _callees(child)
    return list({id(m): m for m in found}.values())
