"""Load checkpoints that may come from anyone: a `.pt` is a pickle, and a pickle can run code.

torch's restricted unpickler (`weights_only=True`) refuses every global that is not on a list. This module builds the
shortest list that a real checkpoint needs, from the names in that checkpoint, and makes sure that a class on it can
only be rebuilt from its state: calling it (pickle's REDUCE) is refused, because constructors of model classes read
configuration, and ultralytics' evaluates strings of it.
"""

import atexit
import importlib
import os
import pickle
import shutil
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quantbench.errors import QuantbenchError

# Modules whose nn.Module classes a checkpoint may rebuild. Nothing of theirs that is no nn.Module is allowed.
_MODULE_PREFIXES = ("torch.nn.modules.", "ultralytics.nn.modules.", "timm.layers.", "timm.models.")
_MODULE_NAMES = ("ultralytics.nn.tasks", "torchvision.models.resnet", "torchvision.models.mobilenetv2")
# What torch and pickle raise for files that are damaged, wherever in them.
_DAMAGE = (
    RuntimeError, EOFError, KeyError, IndexError, TypeError, ValueError, AttributeError, ImportError, AssertionError,
    OverflowError, MemoryError, OSError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
# Plain data holders with neither constructor side effects nor hooks.
_GETATTR = frozenset({"builtins.getattr", "__builtin__.getattr"})
_FORWARDS = frozenset({"forward", "forward_fuse", "forward_split"})
_PLAIN = frozenset({"ultralytics.utils.IterableSimpleNamespace", "types.SimpleNamespace"})


def load_checkpoint(path: Path, *, trust: bool = False) -> Any:
    """The object pickled in `path`, on the CPU, without running code from the file.

    With `trust` the file is unpickled in full, which runs whatever it says: the user's own choice.
    Raises QuantbenchError for a missing or broken file, and for a file that wants any class or function outside the
    allowlist, naming the first.
    """
    if not path.is_file():
        raise QuantbenchError(f"checkpoint {path} does not exist")
    quiet_ultralytics(trust=trust)
    try:
        if trust:
            return torch.load(path, map_location="cpu", weights_only=False)
        shells = _shells(path)
        with torch.serialization.safe_globals([(shell, name) for name, shell in shells.items()]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise QuantbenchError(f"checkpoint {path} refused: {_reason(error)}") from error
    except _DAMAGE as error:
        raise QuantbenchError(f"checkpoint {path} cannot be read: {_first_line(error)}") from error
    _unshell(loaded, set())
    return loaded


def quiet_ultralytics(*, trust: bool) -> None:
    """Set what ultralytics reads at import: no writing to the home directory, no chatter, no `eval` of a checkpoint's
    configuration (it rebuilds models from the strings in it unless told not to)."""
    if not trust:
        os.environ["ULTRALYTICS_SAFE_LOAD"] = "1"
    if "YOLO_CONFIG_DIR" not in os.environ:
        # Private and new: in a folder of a known name another user could plant settings, or a link.
        folder = tempfile.mkdtemp(prefix="quantbench-yolo-")
        os.environ["YOLO_CONFIG_DIR"] = folder
        atexit.register(_remove, folder, os.getpid())
    os.environ.setdefault("YOLO_VERBOSE", "False")
    os.environ.setdefault("YOLO_AUTOINSTALL", "False")


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def wanted_globals(path: Path) -> tuple[str, ...]:
    """Names of the classes and functions that the pickle asks for beyond torch's own tensors, sorted.

    The pickle is scanned, not run. Raises QuantbenchError where the file is no torch zip archive.
    """
    if not zipfile.is_zipfile(path):
        raise QuantbenchError(
            f"checkpoint {path} is not a torch zip archive (torch.save since 1.6); save it again with a current torch"
        )
    return tuple(sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path))))


def _shells(path: Path) -> dict[str, Any]:
    """A stand-in for every global that `path` wants; QuantbenchError for the first that is not allowed."""
    return {name: _method if name in _GETATTR else _shell(_resolve(name, path)) for name in wanted_globals(path)}


def _method(owner: Any, name: Any) -> Any:
    """What `getattr` may do in a checkpoint: name a forward method of a module. A fused ultralytics model stores
    `forward` as its bound method `forward_fuse`, which pickles as a call of getattr."""
    if not isinstance(owner, nn.Module) or name not in _FORWARDS:
        raise pickle.UnpicklingError(f"Unsupported operand: it wants the attribute {str(name)[:40]!r} of an object")
    return getattr(owner, name)


def _resolve(name: str, path: Path) -> type:
    module, _, attribute = name.rpartition(".")
    allowed = module.startswith(_MODULE_PREFIXES) or module in _MODULE_NAMES
    if not allowed and name not in _PLAIN:
        raise _refusal(name, path)
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise QuantbenchError(
            f"checkpoint {path} needs {name}, and {module.split('.')[0]} is not installed; "
            f"pip install 'quantbench[yolo]'"
        ) from error
    if not isinstance(found, type) or (allowed and not issubclass(found, nn.Module)):
        raise _refusal(name, path)
    return found


def _refusal(name: str, path: Path) -> QuantbenchError:
    return QuantbenchError(
        f"checkpoint {path} refused: it wants {name}, which a model checkpoint does not need; "
        f"--trust loads it all the same and runs what it says"
    )


class _Uncallable(type):
    """Metaclass of the stand-ins: `__new__` and state only, never a constructor call."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise pickle.UnpicklingError(f"it calls the constructor of {cls.__qualname__}")


def _shell(real: type) -> type:
    """Subclass of `real` that the unpickler may create but not call."""
    meta = type("_Meta", (_Uncallable, type(real)), {})
    shell: type = meta(real.__qualname__, (real,), {"__module__": real.__module__, "_real": real})
    return shell


def _unshell(value: Any, seen: set[int]) -> None:
    """Turn stand-ins back into instances of the real classes, through containers and module trees."""
    stack = [value]
    while stack:
        item = stack.pop()
        if id(item) in seen or isinstance(item, (str, bytes, int, float, torch.Tensor)):
            continue
        seen.add(id(item))
        if isinstance(type(item), _Uncallable):
            object.__setattr__(item, "__class__", vars(type(item))["_real"])
        if isinstance(item, dict):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set, frozenset)):
            stack += item
        elif hasattr(item, "__dict__"):
            stack += vars(item).values()


def _reason(error: BaseException) -> str:
    """The line of torch's long message that names the thing."""
    for line in str(error).splitlines():
        if "Unsupported" in line or "calls the constructor" in line or "Trying to" in line:
            return line.strip()[:200]
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
