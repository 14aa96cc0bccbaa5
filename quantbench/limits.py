"""How much a file may ask for before it is believed: checked before anything is allocated.

Files come from other people. A size in a header costs its writer nothing and the reader all memory, so each kind of
input has a bound that no honest file reaches; `quantbench --no-limits` lifts them all.
"""

from pathlib import Path

from quantbench.errors import QuantbenchError

MIB = 1 << 20
RECIPE_BYTES = MIB
CACHE_BYTES = 256 * MIB
TEXT_BYTES = 1024 * MIB
ENGINE_BYTES = 64 * 1024 * MIB
# For files that are mapped, not read.
ANY_BYTES = 1 << 60
INPUT_BYTES = 16 * 1024 * MIB
DEVICE_BYTES = 64 * MIB
IMAGE_BYTES = 512 * MIB
# Elements of one range in a checkpoint: the widest real one has a number a channel.
RANGE_ELEMENTS = 1 << 22
ARRAY_ROWS = 1 << 31
LINE_CHARACTERS = 16 * MIB
THREADS = 1024
PROCESSES = 256

_lifted = False


def lift() -> None:
    """Believe every size from here on, in this process."""
    global _lifted
    _lifted = True


def check(what: str, value: int, most: int, unit: str = "bytes") -> None:
    """Raise QuantbenchError where `what` asks for more than `most`."""
    if value > most and not _lifted:
        raise QuantbenchError(
            f"{what} is {value:,} {unit}, over the bound of {most:,}; if that is meant, run "
            f"'quantbench --no-limits' and the same command"
        )


def regular(path: Path) -> None:
    """Raise QuantbenchError where `path` is there and no regular file: a device or a pipe never ends."""
    if path.is_dir():
        raise QuantbenchError(f"{path} is a folder, not a file")
    if path.exists() and not path.is_file():
        raise QuantbenchError(f"{path} is no regular file; copy its content into one")


def regular_file(path: Path, most: int) -> None:
    """Raise QuantbenchError where `path` is no regular file or is over `most` bytes.

    Raises OSError where it cannot be looked at.
    """
    regular(path)
    check(str(path), path.stat().st_size, most)


# Deeper than anyone writes by hand.
_MOST_DEPTH = 64
_ENDLESS = 1 << 40


def values_of(data: object) -> int:
    """How many values plain `data` holds when every alias of YAML is written out; counts each shared part once and
    multiplies. More than any bound for data that hold themselves or nest too deep."""
    return _values(data, {}, 0)


def _values(data: object, known: dict[int, int], depth: int) -> int:
    if not isinstance(data, dict | list | tuple | set):
        return 1
    if depth > _MOST_DEPTH or known.get(id(data)) == -1:
        return _ENDLESS
    if id(data) not in known:
        known[id(data)] = -1
        parts = [*data.keys(), *data.values()] if isinstance(data, dict) else list(data)
        known[id(data)] = 1 + sum(_values(part, known, depth + 1) for part in parts)
    return known[id(data)]
