"""Build hook: compile the calibration sweep where a C compiler is at hand; without one the wheel is plain Python."""

import importlib.util
import os
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class SweepBuildHook(BuildHookInterface[Any]):
    """Puts `quantbench/calibration/_sweep.so` beside its source and into the wheel (QUANTBENCH_NATIVE=0: does not)."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the build; `version` is "editable" or "standard", both compile."""
        if self.target_name != "wheel" or os.environ.get("QUANTBENCH_NATIVE") == "0":
            return
        folder = Path(self.root, "quantbench", "calibration")
        spec = importlib.util.spec_from_file_location("quantbench_native", folder / "native.py")
        assert spec is not None
        assert spec.loader is not None
        native = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(native)
        target = folder / native.library_name()
        if not native.compile_library(target):
            self.app.display_warning("no C compiler: calibration will count with numpy, about three times slower")
            return
        build_data["artifacts"].append(f"/quantbench/calibration/{target.name}")
        build_data["pure_python"] = False
        # No Python in it, so any CPython of this platform.
        build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")
