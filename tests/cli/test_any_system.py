"""Nothing in quantbench wants a module or a function that Windows lacks, where TensorRT-RTX is at home."""

import ast
from pathlib import Path

import quantbench
from tests.sources import nodes

PACKAGE = Path(quantbench.__file__).parent
# Python's library reference, "Availability: Unix".
MODULES = frozenset(
    {"fcntl", "termios", "resource", "pwd", "grp", "pty", "tty", "posix", "syslog", "curses", "readline"}
)
NAMES = frozenset({
    "os.fork", "os.forkpty", "os.getuid", "os.geteuid", "os.getpgid", "os.setsid", "os.killpg", "os.mkfifo", "os.chown",
    "os.sched_getaffinity", "os.statvfs", "os.uname", "os.wait", "os.nice", "os.getloadavg", "os.sysconf",
    "signal.SIGKILL", "signal.SIGHUP", "signal.SIGALRM", "signal.SIGPIPE", "signal.SIGUSR1", "signal.alarm",
    "signal.setitimer", "signal.pause", "time.tzset", "socket.AF_UNIX",
})  # fmt: skip
WANTED = MODULES | NAMES


def _asked_for(module: str, name: str, source: str) -> bool:
    return f'hasattr({module}, "{name}")' in source or "except (AttributeError" in source


def test_no_module_and_no_function_of_unix_alone_is_used_unguarded() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in nodes(path):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module.split(".")[0], *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                # Asked for first, or its absence is caught.
                names = [] if name in NAMES and _asked_for(node.value.id, node.attr, source) else [name]
            found += [
                f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}: {name}" for name in names if name in WANTED
            ]
    assert not found, "\n".join(found)
