"""Optimization profiles: parse `--shapes`, complete them for dynamic inputs, check them against a network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quantbench.errors import QuantbenchError

Shape = tuple[int, ...]
# What a network says of an input: -1 for a dimension known only at run time.
InputShapes = Mapping[str, Shape]

_FORM = "NAME=MIN:OPT:MAX with each like 1x3x224x224 (or MIN:MAX, whose opt is MAX, or one fixed SHAPE)"


@dataclass(frozen=True, slots=True)
class Profile:
    """One optimization profile: input name to its (min, opt, max) shapes."""

    shapes: Mapping[str, tuple[Shape, Shape, Shape]] = field(default_factory=dict)


def parse_profile(text: str) -> Profile:
    """Read `x=1x3x224x224:8x3x224x224:32x3x224x224,mask=1x4`: one profile, inputs apart by commas. Of two shapes,
    `x=1x3x480x640:8x3x720x1280`, the larger is the one to optimize for, too.

    Names may hold colons: each part is split at its last `=`. Raises QuantbenchError on any other text.
    """
    shapes: dict[str, tuple[Shape, Shape, Shape]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, sign, value = part.rpartition("=")
        triple = [_parse_shape(item, text) for item in value.split(":")]
        if not sign or not name or len(triple) > 3:
            raise QuantbenchError(f"--shapes {text!r}: {part!r} is not {_FORM}")
        low, best, high = triple[0], triple[min(1, len(triple) - 1)], triple[-1]
        if not (len(low) == len(best) == len(high)):
            raise QuantbenchError(f"--shapes {text!r}: min, opt and max of {name} differ in rank")
        if any(not a <= b <= c for a, b, c in zip(low, best, high, strict=True)):
            raise QuantbenchError(f"--shapes {text!r}: {name} needs min <= opt <= max in every dimension")
        shapes[name] = (low, best, high)
    if not shapes:
        raise QuantbenchError(f"--shapes {text!r} is not {_FORM}")
    return Profile(shapes)


def shapes_by_input(profiles: Sequence[Profile]) -> dict[str, tuple[Shape, ...]]:
    """Every min, opt and max that `profiles` name, by input, each once."""
    found: dict[str, dict[Shape, None]] = {}
    for profile in profiles:
        for name, triple in profile.shapes.items():
            found.setdefault(name, {}).update(dict.fromkeys(triple))
    return {name: tuple(shapes) for name, shapes in found.items()}


def complete_profiles(
    inputs: InputShapes, profiles: Sequence[Profile], default_batch: int
) -> tuple[tuple[Profile, ...], tuple[str, ...]]:
    """Return (profiles that cover every dynamic input, notes on what was filled in); () where nothing is dynamic.

    Only an unknown first dimension (the batch) is filled in, as 1:default_batch:default_batch; any other unknown
    dimension must be given. Raises QuantbenchError where it is not, and where a given shape does not fit the model.
    """
    dynamic = {name: shape for name, shape in inputs.items() if any(d < 0 for d in shape)}
    for profile in profiles:
        _check(profile, inputs)
    if not dynamic:
        return (), ()
    notes: dict[str, None] = {}
    done = []
    for profile in profiles or (Profile(),):
        shapes = dict(profile.shapes)
        for name, shape in dynamic.items():
            if name not in shapes:
                shapes[name] = _default(name, shape, default_batch)
                notes[f"input {name} has a dynamic batch: profile 1:{default_batch}:{default_batch}"] = None
        done.append(Profile({name: shapes[name] for name in inputs if name in shapes}))
    return tuple(done), tuple(notes)


def spelled(shape: Shape) -> str:
    """As users write it: 1x3x224x224, with ? for a dimension that is not known."""
    return "x".join("?" if d < 0 else str(d) for d in shape)


def _default(name: str, shape: Shape, batch: int) -> tuple[Shape, Shape, Shape]:
    if any(d < 0 for d in shape[1:]):
        raise QuantbenchError(f"input {name} has shape {spelled(shape)}: give --shapes '{name}=MIN:OPT:MAX'")
    return (1, *shape[1:]), (batch, *shape[1:]), (batch, *shape[1:])


def _check(profile: Profile, inputs: InputShapes) -> None:
    for name, triple in profile.shapes.items():
        if name not in inputs:
            raise QuantbenchError(f"--shapes names input {name!r}, but the model's inputs are {', '.join(inputs)}")
        model = inputs[name]
        for given in triple:
            fits = len(given) == len(model) and all(m < 0 or m == g for m, g in zip(model, given, strict=True))
            if not fits:
                raise QuantbenchError(f"--shapes gives {name} as {spelled(given)}, but the model has {spelled(model)}")


def _parse_shape(text: str, whole: str) -> Shape:
    try:
        shape = tuple(int(d) for d in text.lower().split("x")) if text else ()
    except ValueError as error:
        raise QuantbenchError(f"--shapes {whole!r}: {text!r} is no shape; write 1x3x224x224") from error
    if any(d < 0 for d in shape):
        raise QuantbenchError(f"--shapes {whole!r}: {text!r} holds a negative dimension")
    return shape
