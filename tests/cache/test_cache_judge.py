"""Flags, differences and merges."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantbench.cache.diff import Difference, diff
from quantbench.cache.flags import flags, looks_inverted
from quantbench.cache.merge import POLICIES, merge
from quantbench.cache.read import parse_bytes, read_cache
from quantbench.cache.tensorrt import parse, render
from quantbench.calibration.ranges import Ranges, TensorRange
from quantbench.errors import QuantbenchError

CALIB = Path(__file__).parents[1] / "data" / "artefacts" / "calib"
REAL = sorted(CALIB.iterdir())
HEADER = "TRT-8601-EntropyCalibration2\n"


def kinds(text: str) -> list[tuple[str, str]]:
    return [(flag.kind, flag.tensor) for flag in flags(parse_bytes(text.encode()))]


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_caches_have_no_flags_but_unnamed_layers(path: Path) -> None:
    assert {flag.kind for flag in flags(read_cache(path))} <= {"unnamed"}


def test_unnamed_layers_of_real_caches_are_counted() -> None:
    counts = {path.name: sum(f.kind == "unnamed" for f in flags(read_cache(path))) for path in REAL}
    assert counts["mlperf05_inspur_mnist2.cache"] == 5
    assert counts["trt2023_int8.cache"] == 1335


@pytest.mark.parametrize(
    ("spelled", "kind"),
    [("0", "zero"), ("7f800000", "infinite"), ("7fc00000", "nan"), ("ffc00000", "nan"), ("bc010204", "negative"),
     ("501502f9", "absurd"), ("1", "absurd"), ("ff800000", "infinite")],
)  # fmt: skip
def test_bad_values_are_flagged(spelled: str, kind: str) -> None:
    assert kinds(f"{HEADER}good: 3c010204\nbad: {spelled}\n") == [(kind, "bad")]


def test_duplicates_are_flagged_once_with_their_values() -> None:
    (flag,) = flags(parse(f"{HEADER}a: 3c010204\nb: 3c010204\na: 3d010204\n"))
    assert (flag.kind, flag.tensor) == ("duplicate", "a")
    assert "2 different values" in flag.message
    assert "the same value" in flags(parse(f"{HEADER}a: 3c010204\na: 3c010204\n"))[0].message


@pytest.mark.parametrize("path", [p for p in REAL if "rnnt" not in p.name], ids=lambda path: path.name)
def test_inverted_values_of_real_caches_are_recognised(path: Path) -> None:
    cache = read_cache(path)
    inverted = Ranges({n: TensorRange(127 * 127 / r.amax) for n, r in cache.ranges.tensors.items()})
    assert not looks_inverted(cache)
    assert looks_inverted(parse(render(inverted)))


def test_a_sigmoid_at_127_shows_the_inversion() -> None:
    text = render(Ranges({"x": TensorRange(40.0 * 127), "/m/Sigmoid_output_0": TensorRange(127.0 * 127)}))
    assert ("inverted", "") in kinds(text)


@pytest.mark.parametrize("path", [p for p in REAL if p.read_bytes().startswith(b"TRT")], ids=lambda path: path.name)
def test_swapped_bytes_of_real_caches_are_recognised(path: Path) -> None:
    lines = path.read_text().splitlines()
    swapped = [lines[0]]
    for line in lines[1:]:
        name, _, digits = line.rpartition(": ")
        swapped.append(f"{name}: {bytes.fromhex(digits.zfill(8))[::-1].hex()}")
    found = [flag.kind for flag in flags(parse("\n".join(swapped))) if not flag.tensor]
    assert "byteswapped" in found
    assert "inverted" not in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TRT-110000-EntropyCalibration2\nx: 3c010204\n", "11.0.0"),
        ("TRT-7-EntropyCalibration2\nx: 3c010204\n", "no such TensorRT"),
        ("TRT-8601-Percentile\nx: 3c010204\n", "Percentile"),
        ("TRT-8601-EntropyCalibration2\nx: 03c01020\n", "leading zeros"),
        ("TRT-8601-EntropyCalibration2\nx: 0.0078\n", "decimals"),
    ],
)
def test_headers_that_contradict_the_file(text: str, message: str) -> None:
    found = [flag for flag in flags(parse_bytes(text.encode())) if flag.kind == "header"]
    assert message in found[0].message


def test_empty_cache_is_flagged() -> None:
    assert kinds(HEADER) == [("empty", "")]


def test_diff_ranks_by_ratio_in_both_directions() -> None:
    a = parse(render(Ranges({n: TensorRange(v) for n, v in {"x": 1.0, "y": 8.0, "z": 5.0, "only": 1.0}.items()})))
    b = parse(render(Ranges({n: TensorRange(v) for n, v in {"x": 4.0, "y": 1.0, "z": 5.0, "new": 1.0}.items()})))
    result = diff(a, b)
    assert [(d.name, pytest.approx(d.ratio)) for d in result.common] == [("y", 0.125), ("x", 4.0), ("z", 1.0)]
    assert (result.only_first, result.only_second) == (("only",), ("new",))


@given(st.floats(allow_nan=True), st.floats(allow_nan=True))
def test_any_two_values_have_a_distance(first: float, second: float) -> None:
    there, back = Difference("x", first, second), Difference("x", second, first)
    assert there.distance >= 0
    assert there.distance == back.distance
    assert (there.distance == 0) == (there.ratio == 1)


@pytest.mark.parametrize(
    ("policy", "expected"), [("max", 4.0), ("min", 1.0), ("mean", 2.5), ("first", 1.0), ("last", 4.0)]
)
def test_merge_policies(policy: str, expected: float) -> None:
    a = parse(render(Ranges({"x": TensorRange(1.0), "y": TensorRange(3.0)})))
    b = parse(render(Ranges({"z": TensorRange(2.0), "x": TensorRange(4.0)})))
    result = merge([a, b], policy)
    assert {n: pytest.approx(r.amax) for n, r in result.ranges.tensors.items()} == {"x": expected, "y": 3.0, "z": 2.0}
    assert {n: pytest.approx(v) for n, v in result.conflicts.items()} == {"x": (1.0, 4.0)}


@given(st.lists(st.dictionaries(st.sampled_from("abcde"), st.floats(0, 1e6), max_size=5), min_size=1, max_size=4))
def test_max_merge_covers_every_file(files: list[dict[str, float]]) -> None:
    caches = [parse(render(Ranges({n: TensorRange(v) for n, v in file.items()}))) for file in files]
    result = merge(caches, "max")
    for cache in caches:
        assert all(result.ranges[e.name].amax >= e.amax for e in cache.entries)
    assert set(POLICIES) >= {"max"}
    assert set(result.ranges) == {name for file in files for name in file}


def test_unknown_policy_is_named() -> None:
    with pytest.raises(QuantbenchError, match="median"):
        merge([], "median")
