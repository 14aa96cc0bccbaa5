"""Which kernels a builder may choose: forbidden ones, chosen ones, and those of an earlier build.

TensorRT 8 to 10 ask an IAlgorithmSelector, a layer at a time. Where that is gone (11), the timing cache is edited
instead: it maps keys of layers to kernels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from quantbench.engines.base import BuildOptions
from quantbench.errors import QuantbenchError

_MASK = (1 << 64) - 1
# What a timing cache begins with is not documented; a log is text.
_LOG_SUFFIXES = (".log", ".txt", ".md", ".gz", ".xz")


@dataclass
class TacticRules:
    """`names` maps tactics to kernel names, `replay` layers to tactics. `missed` collects layers whose wanted kernel
    was not among the choices, `kept` those that got it."""

    forbid: tuple[str, ...] = ()
    choose: tuple[tuple[str, str], ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    replay: Mapping[str, frozenset[int]] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def allowed(self, layer: str, tactics: Sequence[int]) -> list[int]:
        """Indices into `tactics` that may be chosen for `layer`; all of them where the rules would leave none."""
        keep = [i for i, tactic in enumerate(tactics) if not self._matches(tactic, self.forbid)]
        wanted = next((t for pattern, t in reversed(self.choose) if fnmatchcase(layer, pattern)), "")
        if wanted:
            keep = self._only(layer, [i for i in keep if self._matches(tactics[i], (wanted,))], keep)
        elif layer in self.replay:
            keep = self._only(layer, [i for i in keep if tactics[i] & _MASK in self.replay[layer]], keep)
        return keep or list(range(len(tactics)))

    def _only(self, layer: str, found: list[int], otherwise: list[int]) -> list[int]:
        (self.kept if found else self.missed).append(layer)
        return found or otherwise

    def _matches(self, tactic: int, patterns: Sequence[str]) -> bool:
        number = f"0x{tactic & _MASK:016x}"
        name = self.names.get(tactic & _MASK, "")
        return any(
            fnmatchcase(number, p.lower()) or (p.lower().startswith("0x") and number == f"0x{_hex(p):016x}")
            or (name and fnmatchcase(name, p))
            for p in patterns
        )  # fmt: skip

    @property
    def notes(self) -> list[str]:
        """What came of the rules, for the build's summary."""
        notes = []
        if self.replay or self.choose:
            notes.append(f"{len(set(self.kept))} layers were left the wanted kernel alone")
        if self.missed:
            some = ", ".join(dict.fromkeys(self.missed[:5]))
            notes.append(f"{len(set(self.missed))} layers do not know the kernel that was wanted: {some}")
        return notes


def tactic_rules(options: BuildOptions) -> TacticRules | None:
    """The rules that `options` ask for, None for none. Raises QuantbenchError where a kernel is named by words and no
    log tells what it is called, or the log of `--replay` holds no kernels."""
    if not (options.forbid_tactics or options.choose_tactics or _is_log(options.replay)):
        return None
    names: dict[int, str] = {}
    replay: dict[str, frozenset[int]] = {}
    if options.replay is not None and _is_log(options.replay):
        from quantbench.inspection.logs.tactic_table import read_tactics, replay_table

        table = read_tactics(options.replay)
        names = {t.number & _MASK: t.kernel for group in table.groups for t in group.timings if t.kernel}
        replay = replay_table(table)
        if not replay:
            raise QuantbenchError(f"--replay {options.replay} tells no kernel of any layer; give a verbose build log")
    for word in (*options.forbid_tactics, *(tactic for _, tactic in options.choose_tactics)):
        if not word.lower().startswith(("0x", "*")) and not names:
            raise QuantbenchError(
                f"kernel {word!r} is a name, which only a verbose log tells: give --replay BUILD.log, or its number 0x…"
            )
    return TacticRules(options.forbid_tactics, options.choose_tactics, names, replay)


def selector(trt: Any, rules: TacticRules) -> Any:
    """An IAlgorithmSelector of TensorRT 8 to 10 that keeps to `rules`."""

    def start(self: Any) -> None:
        trt.IAlgorithmSelector.__init__(self)

    def select(self: Any, context: Any, choices: Sequence[Any]) -> list[int]:
        return rules.allowed(context.name, [choice.algorithm_variant.tactic for choice in choices])

    def report(self: Any, contexts: Sequence[Any], choices: Sequence[Any]) -> None:
        """Nothing to do: the log tells what was chosen."""

    members = {"__init__": start, "select_algorithms": select, "report_algorithms": report}
    return type("Selector", (trt.IAlgorithmSelector,), members)()


def edit_timing_cache(trt: Any, cache: Any, choose: Sequence[tuple[str, str]]) -> None:
    """Put the kernels of `choose` (key of the timing cache, tactic) into `cache`, as the editable mode has it.

    Raises QuantbenchError for a key that the cache lacks, or text that is no key or number.
    """
    for key, tactic in choose:
        try:
            parsed = trt.TimingCacheKey.parse(key)
            value = trt.TimingCacheValue(_hex(tactic), 0.0)
        except (ValueError, RuntimeError) as error:
            raise QuantbenchError(
                f"--choose {key}={tactic}: without an algorithm selector this TensorRT wants KEY=0x…, a key of its "
                f"timing "
                "cache, which the verbose log of a build with an editable cache names"
            ) from error
        if not cache.update(parsed, value):
            raise QuantbenchError(
                f"--choose {key}={tactic}: the timing cache has no such key; build once with it first"
            )


def is_timing_cache(path: Path | None) -> bool:
    """Whether `--replay` names a timing cache and no log."""
    return path is not None and not _is_log(path)


def _is_log(path: Path | None) -> bool:
    return path is not None and path.suffix.lower() in _LOG_SUFFIXES


def _hex(text: str) -> int:
    try:
        return int(text, 16) & _MASK
    except ValueError:
        return -1 & _MASK
