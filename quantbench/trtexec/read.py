"""A trtexec command line of any version, as people paste it, in quantbench's words."""

import difflib
import re
import shlex

from quantbench.errors import QuantbenchError
from quantbench.trtexec.flag import Translation
from quantbench.trtexec.flags import FLAGS

_BANNER = re.compile(r"^&&&& \w+ TensorRT\.\w+(?: \[[^\]]*\])* # ")
_ASSIGNMENT = re.compile(r"^[A-Za-z_]\w*=")
_ENDS = frozenset({"|", "&&", "||", ";", "&", ">", ">>", "2>", "2>&1", "1>", "&>"})
# Written without a value where there is nothing to name.
_MAY_STAND_ALONE = frozenset({"setPluginsToSerialize"})
# Spellings of versions and of habit.
_ALIASES = {"v": "verbose", "h": "help", "useDlaCore": "useDLACore", "staticPlugin": "staticPlugins",
            "skip_inference": "skipInference", "minShape": "minShapes", "optShape": "optShapes", "maxShape":
            "maxShapes", "precisionConstrants": "precisionConstraints", "save_engine": "saveEngine"}  # fmt: skip


def translate(text: str) -> Translation:
    """What `text` asks for. It may begin with a prompt, `sudo`, variables, a path to trtexec or the banner of a log,
    and end in a pipe or a redirection; lines may be continued.

    Raises QuantbenchError where it is no trtexec command line, or a flag is unknown or lacks its value.
    """
    words = _words(text)
    found = Translation()
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        word = re.sub(r"^[—–]+", "--", word)  # a word processor's dashes
        if not word.startswith("-"):
            raise QuantbenchError(f"{word!r} is no flag of trtexec; its flags are --name or --name=value")
        name, sign, value = word.lstrip("-").partition("=")
        flag = FLAGS.get(_ALIASES.get(name, name))
        if flag is None:
            near = difflib.get_close_matches(name, FLAGS, n=1, cutoff=0.6)
            hint = f"did you mean --{near[0]}?" if near else "docs/trtexec.md lists those of versions 8 to 11"
            raise QuantbenchError(f"--{name} is no flag of trtexec 8 to 11; {hint}")
        if not flag.value and value.lower() in ("false", "0"):
            continue  # --useSpinWait=false; --useSpinWait=true is as without
        if flag.value and not sign and flag.name in _MAY_STAND_ALONE:
            continue
        if flag.value and not sign:
            # trtexec wants `=`; people also leave it out.
            if position < len(words) and not words[position].startswith("-"):
                value = words[position]
                position += 1
            else:
                raise QuantbenchError(f"--{name} wants a value: --{name}={flag.value}")
        flag.handle(found, value)
    return _finished(found)


def _words(text: str) -> list[str]:
    plain = re.sub(r"\\\s*\n", " ", text.strip())
    plain = _BANNER.sub("", re.sub(r"^[$#>] ", "", plain))
    try:
        words = shlex.split(plain.replace("\n", " "))
    except ValueError as error:
        raise QuantbenchError(f"the command line cannot be taken apart ({error}); check its quotes") from error
    while words and (_ASSIGNMENT.match(words[0]) or words[0] in ("sudo", "time", "nohup", "!", "env")):
        words.pop(0)
    if words and re.search(r"(?:^|[/\\])!?(?:trtexec|tensorrt_rtx)(?:\.exe)?$", words[0]):
        words.pop(0)
    end = next((i for i, w in enumerate(words) if w in _ENDS or re.match(r"^\d?>{1,2}", w)), len(words))
    return words[:end]


def _finished(t: Translation) -> Translation:
    """What only the whole line tells: shapes by profile, INT8 and its ranges, threads."""
    if not t.model and not t.loads:
        raise QuantbenchError(
            "the command line names neither --onnx nor --loadEngine: there is nothing to build or run"
        )
    for index in sorted(t.shapes):
        _shapes(t, t.shapes[index])
    if t.calib:
        t.build.extend(["--ranges", t.calib])
        t.int8 = True
        if "int8" not in t.precisions:
            t.precisions.append("int8")
    elif t.int8 and t.model:
        words = (
            "a Q/DQ model needs nothing; of a float model trtexec makes every range up (its engine is for timing), "
            "which quantbench refuses: quantize with quantbench ptq first, or give --ranges or --calib-dir"
        )
        t.changed.append(("--int8", words))
    if t.precisions:
        t.build.extend(["--precision", ",".join(dict.fromkeys(t.precisions))])
    if t.threaded:
        _threads(t)
    if t.model and not t.engine:
        t.engine = f"{t.model.removesuffix('.onnx')}.engine"
    return t


def _shapes(t: Translation, given: dict[str, dict[str, str]]) -> None:
    """trtexec fills in: shapes of the inference alone become the profile, the opt ones alone all three; of a profile
    without shapes for the inference the opt ones are run."""
    low, best, high, run = (given.get(kind, {}) for kind in ("minShapes", "optShapes", "maxShapes", "shapes"))
    names = dict.fromkeys((*low, *best, *high))
    if names:
        parts = []
        for name in names:
            middle = best.get(name) or high.get(name) or low[name]
            parts.append(f"{name}={low.get(name, middle)}:{middle}:{high.get(name, middle)}")
        t.build.extend(["--shapes", ",".join(parts)])
    elif run:
        t.build.extend(["--shapes", ",".join(f"{name}={dims}" for name, dims in run.items())])
    if run:
        t.bench.extend(["--shapes", ",".join(f"{name}={dims}" for name, dims in run.items())])


def _threads(t: Translation) -> None:
    if "--streams" in t.bench:
        t.bench[t.bench.index("--streams")] = "--contexts"
    else:
        t.bench.extend(["--contexts", "1"])


def commands(t: Translation) -> list[list[str]]:
    """quantbench's command lines that do the same, each as words (`build`, then `bench`)."""
    found: list[list[str]] = []
    if t.model and not t.loads:
        found.append(["quantbench", "build", t.model, *(["--out", t.engine] if t.engine else []), *t.build])
    if not t.build_only:
        found.append(["quantbench", "bench", t.loads or t.engine, *t.bench])
    return found


def printed(t: Translation) -> list[str]:
    """`commands` as one would type them."""
    before = "".join(f"{word} " for word in t.environment)
    return [before + shlex.join(words) for words in commands(t)]
