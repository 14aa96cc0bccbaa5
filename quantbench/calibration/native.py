"""The compiled loops (`sweep.c`, `sums.c`, `search.c`): found where an installation built them, else built once by the
system's C compiler.

It is a plain shared library without Python in it, loaded with ctypes: no headers are needed to build it, one build
serves every Python, and calls run without the GIL. Where there is no compiler `sweep.py`, `sums.py` and `thresholds/`
do the same with numpy. `QUANTBENCH_NATIVE=0` asks for that. `hatch_build.py` calls `compile_library` too, so this file
must import nothing but the standard library.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = tuple(Path(__file__).with_name(name) for name in ("sweep.c", "sums.c", "search.c"))
# -ffp-contract=off: a fused multiply-add must not change which bin a value falls into. The other two change no result:
# without them a division behind a condition keeps a loop from being vectorised.
_FLAGS = ("-O3", "-fPIC", "-shared", "-fno-strict-aliasing", "-ffp-contract=off", "-fno-trapping-math",
          "-fno-math-errno")  # fmt: skip


def library_name() -> str:
    """File name of the library beside its source."""
    return "_sweep.dylib" if sys.platform == "darwin" else "_sweep.so"


def compiler() -> list[str] | None:
    """The C compiler's command: $CC, cc, gcc or clang; None where there is none, and on Windows."""
    if sys.platform == "win32":
        return None
    given = shlex.split(os.environ.get("CC", ""))
    if given and shutil.which(given[0]):
        return given
    return next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), None)


def compile_library(target: Path) -> bool:
    """Compile the sources to `target`, atomically; False where there is no compiler or it fails."""
    command = compiler()
    if command is None:
        return False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / target.name
            subprocess.run(
                [*command, *_FLAGS, f'-DFINGERPRINT="{fingerprint()}"', *map(str, SOURCES), "-o", str(made)],
                check=True,
                capture_output=True,
            )
            made.replace(target)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@functools.cache
def load() -> ctypes.CDLL | None:
    """The library, or None where numpy must do."""
    if os.environ.get("QUANTBENCH_NATIVE") == "0":
        return None
    installed = _open(Path(__file__).with_name(library_name()))
    if installed is not None:
        return installed
    built = _cache_folder() / f"sweep-{fingerprint()}{Path(library_name()).suffix}"
    if not built.is_file() and not compile_library(built):
        return None
    return _open(built)


def _open(path: Path) -> ctypes.CDLL | None:
    """The library at `path`, if it is there and was built from this source."""
    if not path.is_file():
        return None
    try:
        library = ctypes.CDLL(str(path))
        library.quantbench_sweep_fingerprint.restype = ctypes.c_char_p
        current: bool = library.quantbench_sweep_fingerprint() == fingerprint().encode()
    except (OSError, AttributeError):
        return None
    if not current:  # of an older source, which may lack what this one has
        return None
    for name in ("sweep", "fake_quantized_sums", "differences", "cross_entropies", "squared_errors"):
        getattr(library, f"quantbench_{name}").restype = None
    return library


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "quantbench"


def fingerprint() -> str:
    """What a library must have been built from."""
    text = (
        b"".join(source.read_bytes() for source in SOURCES)
        + " ".join((*_FLAGS, platform.machine(), sys.platform)).encode()
    )
    return hashlib.sha256(text).hexdigest()[:16]
