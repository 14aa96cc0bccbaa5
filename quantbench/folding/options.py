"""What is asked for of equalization and SmoothQuant."""

from dataclasses import dataclass

from quantbench.records.folded import Method, Mode


@dataclass(frozen=True, slots=True)
class FoldOptions:
    """Of each method: `on`, `off`, or `auto`: where it helps on the calibration data."""

    equalize: Mode = "off"
    smooth: Mode = "off"

    @property
    def asked(self) -> tuple[Method, ...]:
        """The methods that are not off."""
        modes: dict[Method, Mode] = {"equalize": self.equalize, "smooth": self.smooth}
        return tuple(method for method, mode in modes.items() if mode != "off")

    def is_on(self, method: Method) -> bool:
        """Whether `method` is to be used wherever it can."""
        return (self.equalize if method == "equalize" else self.smooth) == "on"
