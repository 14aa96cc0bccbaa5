"""A callable or class by `name:attribute`, `package.module:attribute` or `path/to/file.py:attribute`."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from quantbench.errors import QuantbenchError
from quantbench.shipped import shipped_names


def load_object(spec: str, *, kind: str = "") -> Any:
    """What `spec` names. With `kind` (calibrators, datasets) a bare name is looked up among the shipped files.

    The file is the user's own code and is run. Raises QuantbenchError where file, module or attribute is missing.
    """
    source, _, attribute = spec.rpartition(":")
    if not source:
        raise QuantbenchError(f"{spec!r} names no attribute; write file.py:Name or package.module:Name")
    module = _module(source, kind)
    if not hasattr(module, attribute):
        raise QuantbenchError(f"{source} has no {attribute!r}")
    return getattr(module, attribute)


def names_code(text: str) -> bool:
    """Whether `text` is file.py:name, where a path of data might stand too."""
    file, _, name = text.rpartition(":")
    return file.endswith(".py") and name.isidentifier()


def source_sha256(found: Any) -> str:
    """Hash of the source file that defines a class or function; of its name where there is none (compiled code)."""
    try:
        file = inspect.getsourcefile(found)
    except TypeError:
        file = None
    content = Path(file).read_bytes() if file is not None else f"{found!r}".encode()
    return hashlib.sha256(content).hexdigest()


def _module(source: str, kind: str) -> ModuleType:
    if source.endswith(".py"):
        return load_file(Path(source))
    if kind:
        shipped = shipped_names(kind, ".py")
        if source in shipped:
            return load_file(shipped[source])
        raise QuantbenchError(
            f"no {kind.removesuffix('s')} {source!r}; there are {', '.join(shipped)}, or file.py:Name"
        )
    try:
        return importlib.import_module(source)
    except ImportError as error:
        raise QuantbenchError(f"cannot import {source}: {error}") from error


def load_file(path: Path) -> ModuleType:
    """Run the Python file at `path` as a module of its own. Raises QuantbenchError where it is missing or broken."""
    if not path.is_file():
        raise QuantbenchError(f"{path} does not exist")
    name = f"quantbench_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise QuantbenchError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses of the file look their module up here.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError) as error:
        raise QuantbenchError(f"{path} cannot be loaded: {error}") from error
    return module
