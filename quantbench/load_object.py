"""A callable or class by `name:attribute`, `package.module:attribute` or `path/to/file.py:attribute`."""

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
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


@contextlib.contextmanager
def user_code(named: str) -> Iterator[None]:
    """Around code of the user's: whatever it raises is a QuantbenchError that tells `named` (a file, file.py:name, a
    module) and the line; it is no fault of quantbench's. `--debug` prints the traceback."""
    try:
        yield
    except QuantbenchError:
        raise
    except (Exception, SystemExit) as error:
        file = Path(named if named.endswith(".py") else named.rpartition(":")[0]).resolve()
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == file]
        if isinstance(error, SyntaxError) and error.filename is not None and Path(error.filename).resolve() == file:
            lines.append(error.lineno)
        where = f" in line {lines[-1]}" if lines else ""
        words = " ".join(str(error).split())[:200]
        raise QuantbenchError(f"{named} fails{where}: {type(error).__name__}{': ' if words else ''}{words}") from error


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
    with user_code(source):
        return importlib.import_module(source)


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
    with user_code(str(path)):
        spec.loader.exec_module(module)
    return module
