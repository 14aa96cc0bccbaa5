"""Stand-ins that hold an adapter to the real bindings: whatever it touches must exist there with that signature.

Native objects (builder, network, config …) cannot exist without NVIDIA's libraries, their Python classes can. A
Replica of such a class knows only what the real class has: an attribute that is missing there, a property that
cannot be set, a wrong number or type of arguments fails the test. Types are read from the signatures that pybind11
writes into the docstrings. All uses are recorded as "Class.member"; `answers` gives the values that a run needs.
"""

import re
from collections.abc import Callable
from typing import Any

_RUNTIME = r"tensorrt(?:_lean|_dispatch)?"
_CLASS = re.compile(rf"^(?:\w+\.)*{_RUNTIME}(?:_bindings)?\.(?:{_RUNTIME}\.)?(\w+)$")
# Classes that pybind11 met before they were bound keep their C++ name in docstrings.
_CPP_NAMES = {
    "nvonnxparser::IParserError": "ParserError", "nvinfer1::IEngineInspector": "EngineInspector",
    "nvinfer1::IOutputAllocator": "IOutputAllocator", "nvinfer1::IAlgorithmSelector": "IAlgorithmSelector",
}  # fmt: skip
_CREATED = ("Builder", "OnnxParser", "OnnxParserRefitter", "Refitter", "Runtime")


class Contract:
    """One recorded run against the module `trt`."""

    def __init__(self, trt: Any, answers: dict[str, Any]) -> None:
        self.trt, self.answers = trt, answers
        self.used: set[str] = set()
        self.calls: list[tuple[str, list[str]]] = []

    def module(self) -> Any:
        """What the adapter gets in place of `trt`."""
        return _Module(self)

    def value(self, type_name: str, key: str) -> Any:
        if key in self.answers:
            answer = self.answers[key]
            return answer() if callable(answer) and not isinstance(answer, type) else answer
        type_name = type_name.strip()
        plain: dict[str, Any] = {"int": 1, "bool": True, "str": "name", "None": None, "float": 1.0}
        if type_name in plain:
            return plain[type_name]
        cls = self.class_of(type_name)
        if cls is None:
            raise AssertionError(f"{key} returns {type_name!r}: give an answer")
        if hasattr(cls, "__members__"):
            return next(iter(cls.__members__.values()))
        return Replica(self, cls)

    def class_of(self, type_name: str) -> Any:
        type_name = type_name.strip()
        match = _CLASS.match(f"tensorrt.{_CPP_NAMES[type_name]}" if type_name in _CPP_NAMES else type_name)
        return getattr(self.trt, match[1], None) if match else None

    def check(self, value: Any, type_name: str, where: str) -> None:
        """Whether pybind11 would take `value` for a parameter of this type."""
        type_name = type_name.strip()
        cls = self.class_of(type_name)
        if cls is not None and cls.__name__.startswith("Dims"):
            good = isinstance(value, tuple | list) and all(isinstance(d, int) for d in value)
        elif cls is not None:
            kind = object.__getattribute__(value, "_cls") if isinstance(value, Replica) else type(value)
            good = issubclass(kind, cls)
        elif type_name in ("typing.SupportsInt", "int"):
            good = isinstance(value, int) or hasattr(value, "__int__")
        elif type_name in ("typing.SupportsFloat", "float"):
            good = isinstance(value, int | float)
        elif type_name in ("str", "bool"):
            good = isinstance(value, {"str": str, "bool": bool}[type_name])
        elif type_name in ("typing_extensions.Buffer", "buffer"):
            good = isinstance(value, bytes | bytearray | memoryview)
        elif type_name.startswith(("list", "collections.abc", "typing", "object", "List")):
            good = True
        else:
            raise AssertionError(f"{where}: unknown parameter type {type_name!r}")
        assert good, f"{where}: {value!r} is no {type_name}"

    def match(self, doc: str, name: str, given: tuple[Any, ...], where: str) -> str:
        """Return type of the overload that takes `given` (self left out); fails where none does."""
        problems = []
        for parameters, result in signatures(doc, name):
            own = parameters[1:]
            needed = [p for p in own if "=" not in p]
            if not len(needed) <= len(given) <= len(own):
                problems.append(f"takes {len(needed)} to {len(own)} arguments, not {len(given)}")
                continue
            try:
                for value, parameter in zip(given, own, strict=False):
                    self.check(value, parameter.partition(":")[2].partition("=")[0], where)
            except AssertionError as error:
                problems.append(str(error))
                continue
            return result
        raise AssertionError(f"{where}: no overload fits: {'; '.join(problems) or 'no signature found'}")


class Replica:
    """An object of real class `_cls` that exists in name only."""

    def __init__(self, contract: Contract, cls: Any) -> None:
        object.__setattr__(self, "_contract", contract)
        object.__setattr__(self, "_cls", cls)

    def __getattr__(self, name: str) -> Any:
        contract: Contract = object.__getattribute__(self, "_contract")
        cls = object.__getattribute__(self, "_cls")
        key = _owner(cls, name)
        if key is None:
            raise AttributeError(f"{cls.__name__} has no {name}")
        contract.used.add(key)
        member = getattr(cls, name)
        if isinstance(member, property):
            return contract.value(_getter_type(member), key)
        return _method(contract, member.__doc__ or "", name, key)

    def __setattr__(self, name: str, value: Any) -> None:
        contract: Contract = object.__getattribute__(self, "_contract")
        cls = object.__getattribute__(self, "_cls")
        key = _owner(cls, name)
        assert key is not None, f"{cls.__name__} has no {name}"
        member = getattr(cls, name)
        assert isinstance(member, property), f"{key} is no property"
        assert member.fset is not None, f"{key} cannot be set"
        contract.used.add(key)
        # The getter names the type as well, and does so where pybind11 leaves the setter without a docstring.
        contract.check(value, _setter_type(member), key)
        contract.calls.append((key, [_short(value)]))


class _Module:
    def __init__(self, contract: Contract) -> None:
        self._contract = contract

    def __getattr__(self, name: str) -> Any:
        contract = self._contract
        if not hasattr(contract.trt, name):
            raise AttributeError(f"tensorrt has no {name}")
        contract.used.add(name)
        real = getattr(contract.trt, name)
        if name not in _CREATED:
            return real

        def create(*given: Any) -> Replica:
            contract.match(real.__init__.__doc__ or "", "__init__", given, name)
            return Replica(contract, real)

        return create


def signatures(doc: str, name: str) -> list[tuple[list[str], str]]:
    """(parameters, return type) of every overload in a pybind11 docstring."""
    found = []
    for line in doc.splitlines():
        match = re.match(rf"^(?:\d+\. )?{name}\((self: .*)\) -> (.+)$", line.strip())
        if match:
            found.append((_split(match[1]), match[2]))
    return found


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for index, letter in enumerate(text):
        depth += (letter in "[(<") - (letter in "])>")
        if letter == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    return [*parts, text[start:].strip()]


def _method(contract: Contract, doc: str, name: str, key: str) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        result = contract.match(doc, name, given, key)
        contract.calls.append((key, [_short(value) for value in given]))
        return contract.value(result, key)

    return call


def _owner(cls: Any, name: str) -> str | None:
    """ "Class.member" with the class that defines it: ILayer.name rather than IConvolutionLayer.name."""
    for base in cls.__mro__:
        if name in vars(base):
            return f"{base.__name__}.{name}"
    return None


def _getter_type(member: property) -> str:
    match = re.search(r"-> (.+)", (member.fget.__doc__ if member.fget else "") or "")
    assert match, f"no type in {member.fget}"
    return match[1]


def _setter_type(member: property) -> str:
    match = re.search(r"arg1: (.+)\) -> None", (member.fset.__doc__ if member.fset else "") or "")
    return match[1] if match else _getter_type(member)


def _short(value: Any) -> str:
    if isinstance(value, Replica):
        return str(object.__getattribute__(value, "_cls").__name__)
    return str(getattr(value, "name", None) or value)
