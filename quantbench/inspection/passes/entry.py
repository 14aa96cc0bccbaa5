"""PassEntry: what one optimizer pass does, what it means for INT8, and how the graph looks before and after."""

from dataclasses import dataclass

# The seven Q/DQ phases in the order of the optimizer, with the heading that opens each in a log.
PHASES: dict[int, tuple[str, str]] = {
    1: ("constant folding of Q/DQ initializers", "QDQ graph optimizer - constant folding of Q/DQ initializers"),
    2: ("forward pass: DQ motions and fusions", "QDQ graph optimizer forward pass - DQ motions and fusions"),
    3: ("backward pass: Q motions", "QDQ graph optimizer backward pass"),
    4: ("quantization pass: generate quantized ops", "QDQ graph optimizer quantization pass - Generate quantized ops"),
    5: ("quantization epilogue pass", "QDQ graph optimizer quantization epilogue pass"),
    6: ("Q/DQ optimization pass", "QDQ optimization pass"),
    7: ("constant fold dangling Q/DQ", "QDQ graph optimizer constant fold dangling QDQ pass"),
}
GENERAL = 0


@dataclass(frozen=True, slots=True)
class PassEntry:
    """`phase` is 1 to 7, or 0 for passes outside the Q/DQ phases. `before` and `after` are small drawings, lines
    split by newlines; a blue-print alphabet: [x] a layer, ==> INT8, --> float."""

    name: str
    phase: int
    does: str
    int8: str
    before: str
    after: str

    @property
    def drawing(self) -> str:
        """Before and after side by side."""
        left, right = self.before.split("\n"), self.after.split("\n")
        height = max(len(left), len(right))
        left += [""] * (height - len(left))
        right += [""] * (height - len(right))
        width = max(map(len, left))
        middle = height // 2 if height > 2 else 0
        rows = (
            f"{a.ljust(width)}  {'becomes' if i == middle else '       '}  {b}".rstrip()
            for i, (a, b) in enumerate(zip(left, right, strict=True))
        )
        return "\n".join(rows)
