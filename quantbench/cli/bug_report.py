"""What a bug report needs: versions, machine, backends, the last fault; no path of the home folder, no user's name."""

import getpass
import os
import platform
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantbench.engines.base import Availability

_SETTINGS = re.compile(r"(QUANTBENCH|OMP|MKL|OPENBLAS|CUDA|TENSORRT)_")
_DAY = 86_400
_MOST = 6_000


def without_home(text: str) -> str:
    """`text` with the home folder as ~ and the user's name as USER, where it is a part of a path."""
    home = str(Path.home())
    if len(home) > 1:
        text = text.replace(home, "~")
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        return text
    return re.sub(rf"(?<=/){re.escape(user)}(?=/|\b)", "USER", text) if len(user) > 1 else text


def bug_report(backends: Sequence["Availability"]) -> str:
    """The report as Markdown, to be pasted into an issue."""
    from quantbench.provenance import provenance

    machine = provenance()
    lines = ["### quantbench doctor --report", ""]
    lines += [f"- {name} {version}" for name, version in machine.versions.items()]
    lines += [
        f"- {machine.machine.system}, {platform.machine()}",
        f"- {machine.machine.processor}, {machine.machine.cores} cores, {_memory()}",
    ]
    for backend in backends:
        state = f"yes, {backend.version}" if backend.available else "no"
        lines.append(f"- {backend.name}: {state}{f' ({backend.detail})' if backend.detail else ''}")
    lines += [f"- {key}={value}" for key, value in sorted(os.environ.items()) if _SETTINGS.match(key)]
    fault = _last_fault()
    if fault:
        lines += ["", "The last fault of the past day:", "", "```text", fault.replace("```", "'''"), "```"]
    return without_home("\n".join(lines))


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return "memory unknown"
    return f"{size / 1e9:.0f} GB of memory"


def _last_fault() -> str:
    """Details that the command line wrote when it met a fault of quantbench's; the newest of this user's."""
    owner = os.getuid() if hasattr(os, "getuid") else None
    newest: tuple[float, Path] | None = None
    for path in Path(tempfile.gettempdir()).glob("quantbench-error-*.txt"):
        try:
            status = path.lstat()
        except OSError:
            continue
        mine = path.is_file() and not path.is_symlink() and (owner is None or status.st_uid == owner)
        if mine and time.time() - status.st_mtime < _DAY and (newest is None or status.st_mtime > newest[0]):
            newest = (status.st_mtime, path)
    return newest[1].read_text(encoding="utf-8", errors="replace")[-_MOST:] if newest is not None else ""
