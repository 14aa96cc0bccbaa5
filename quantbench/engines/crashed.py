"""What to say of a compiler's process that died: how, over what, and what works in its place."""

import re
import signal
from dataclasses import dataclass
from pathlib import Path

from quantbench.engines.network_function import is_network_function
from quantbench.errors import QuantbenchError

# The parser tells each node before it reads it and again when it is done:
#   [V] [TRT] /head/Slice [Slice] inputs: [x -> (1, 3)[FLOAT]], …
#   [V] [TRT] /head/Slice [Slice] outputs: [y -> (1, 2)[FLOAT]],
_NODE = re.compile(r"\[TRT\] (?P<name>[^\n]*) \[(?P<op>\w+)\] (?P<when>inputs|outputs): (?:\[(?P<first>[^\n]*?) -> )?")
_MESSAGE = re.compile(r"\[[FEWIV]\] \[TRT\] ([^\n]+)")
_TAIL, _WORDS = 1 << 16, 160
_INSTEAD = "--backend onnxruntime builds without it, and ptq goes without a compiler with --no-compile"
_BY_HAND = "fill the network with fewer layers to find the one that it dies of"


@dataclass(frozen=True, slots=True)
class Last:
    """The compiler and its version, the model, the exit code of the process (negative: a signal), its log as far as it
    came and what it said besides."""

    title: str
    model: Path
    code: int
    log: str
    said: str


def crashed(last: Last, log_file: Path | None) -> QuantbenchError:
    """The error of a build whose process died; `log_file`: where the user finds its log."""
    tail = last.log[-_TAIL:]
    over = _over(tail)
    words = " ".join((last.said.strip().splitlines() or [""])[-1].split())[:_WORDS]
    said = f" ({words})" if words else ""
    log = f"; its log up to there is in {log_file}" if log_file is not None and tail else ""
    way_out = _BY_HAND if is_network_function(last.model) else _INSTEAD
    return QuantbenchError(f"{last.title} {how_ended(last.code)} on {last.model}{over}{said}{log}; {way_out}")


def how_ended(code: int) -> str:
    """What the exit code of a process that died says, as the middle of a sentence."""
    if code >= 1 << 31:  # Windows: NTSTATUS, 0xC0000005 is an access violation
        return f"crashed (0x{code:08X})"
    if code >= 0:
        return f"ended its process (exit code {code})"
    if -code == getattr(signal, "SIGKILL", None):
        return "was killed (SIGKILL, most often because memory ran out)"
    try:
        return f"crashed ({signal.Signals(-code).name})"
    except ValueError:
        return f"crashed (signal {-code})"


def _over(log: str) -> str:
    """The node that was read then, else the last message."""
    nodes = list(_NODE.finditer(log))
    if nodes and nodes[-1]["when"] == "inputs":
        named = nodes[-1]["name"] or f"that reads {nodes[-1]['first']}"
        return f", at node {named} ({nodes[-1]['op']})"
    messages = _MESSAGE.findall(log)
    return f", after its message '{' '.join(messages[-1].split())[:_WORDS]}'" if messages else ""
