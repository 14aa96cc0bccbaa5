"""What every backend speaks: options in, an engine and its log out, and a word on whether it is there."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a backend works on this machine, its version, what it can do here, and how to get what is missing."""

    name: str
    available: bool
    version: str = ""
    can: tuple[str, ...] = ()
    reason: str = ""
    how_to_install: str = ""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """Options of an engine build. `shapes`: input name to (min, opt, max) shapes, for dynamic inputs."""

    target: str = "sm86"
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The serialized engine and the verbose log, one message a line, with `Severity.VERBOSE` and the like in front."""

    engine: bytes
    log: str
    backend: str
    version: str
    seconds: float
