"""Nothing in quantbench wants a module or a function that Windows lacks, where TensorRT-RTX is at home."""

import ast
from pathlib import Path

import quantbench

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


def test_no_module_and_no_function_of_unix_alone_is_used_unguarded() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module.split(".")[0], *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                # Asked for first, or its absence is caught.
                asked = f'hasattr({node.value.id}, "{node.attr}")' in source or "except (AttributeError" in source
                names = [] if asked else [f"{node.value.id}.{node.attr}"]
            place = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            found += [f"{place}: {name}" for name in names if name in MODULES | NAMES]
    assert not found, "\n".join(found)
