"""Files that belong to a file by where they lie: beside an engine its log and layers, beside layers their profile."""

from pathlib import Path

from quantbench.inspection.detect import Found

RUN_FILES = ("layers.json", "build.log", "model.qdq.onnx", "run.json")
# trtexec users keep x.profile.json and others beside x.graph.json.
_OF_GRAPH = ("profile", "timing", "metadata", "build.metadata", "profile.metadata")
# `quantbench build x.onnx` leaves these beside x.engine.
_OF_ENGINE = (".layers.json", ".build.log", ".onnx")


def companions(found: Found) -> tuple[Path, ...]:
    """Existing files that tell of the same engine as `found`, itself left out; () for files of no such family."""
    path = found.path
    if found.kind in ("engine", "own-layers", "log") and in_run(path):
        names = [path.with_name(name) for name in RUN_FILES]
    elif found.kind == "layer-info" and path.name.endswith(".graph.json"):
        stem = path.name.removesuffix(".graph.json")
        names = [path.with_name(f"{stem}.{suffix}.json") for suffix in _OF_GRAPH]
    elif found.kind in ("engine", "own-layers", "log"):
        stem = _stem(path, found.kind)
        names = [path.with_name(stem + suffix) for suffix in _OF_ENGINE] if stem else []
        if found.kind != "engine" and stem and not path.with_name(f"{stem}.engine").exists():
            names = []  # two files of like names are no proof; the engine between them is
    else:
        return ()
    return tuple(name for name in names if name != path and name.is_file())


def in_run(path: Path) -> bool:
    """Whether `path` is the engine, the log or the layers of a `quantbench ptq` run folder."""
    return path.name in ("model.engine", "layers.json", "build.log") and path.with_name("run.json").is_file()


def _stem(path: Path, kind: str) -> str:
    """`x` of x.engine, x.build.log or x.layers.json; "" for other names."""
    if kind == "engine":
        return path.stem
    for suffix in _OF_ENGINE[:2]:
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix)
    return ""
