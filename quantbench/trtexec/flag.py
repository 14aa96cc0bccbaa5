"""One flag of trtexec's, and what becomes of it."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Translation:
    """A trtexec command line in our words, while it is read and after.

    `build` and `bench` hold options of those commands. `changed` and `lost` are (flag, what is said of it): work that
    is done in another way, and work that is not done.
    """

    model: str = ""
    engine: str = ""
    loads: str = ""
    build: list[str] = field(default_factory=list)
    bench: list[str] = field(default_factory=list)
    environment: list[str] = field(default_factory=list)
    further: list[str] = field(default_factory=list)
    build_only: bool = False
    threaded: bool = False
    int8: bool = False
    calib: str = ""
    # Shapes by profile: profile -> min, opt, max, shapes -> input -> dims.
    shapes: dict[int, dict[str, dict[str, str]]] = field(default_factory=dict)
    profile: int = 0
    precisions: list[str] = field(default_factory=list)
    changed: list[tuple[str, str]] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)


Handler = Callable[[Translation, str], None]


@dataclass(frozen=True, slots=True)
class Flag:
    """`since` and `until` are versions that have it ("" = before 8, and still there in 11). `ours` is what does the
    work here ("" = nothing does), `words` what to know about it."""

    name: str
    value: str
    group: str
    since: str
    until: str
    ours: str
    words: str
    handle: Handler
