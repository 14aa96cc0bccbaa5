"""Files that users read, copy and edit (`calibrators`, `recipes`, `datasets`, `devices`), found by name."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped_folder(kind: str) -> Path:
    """Folder of `kind`: inside an installed wheel `quantbench/_shipped/<kind>`, in a checkout the one at its root."""
    installed = _PACKAGE / "_shipped" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def shipped_names(kind: str, suffix: str) -> dict[str, Path]:
    """Name to file of all shipped files of `kind` with `suffix`, sorted; underscores in file names read as dashes."""
    files = sorted(shipped_folder(kind).glob(f"*{suffix}"))
    return {file.stem.replace("_", "-"): file for file in files if not file.name.startswith("_")}
