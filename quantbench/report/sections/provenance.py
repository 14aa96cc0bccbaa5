"""Where the result comes from."""

from collections.abc import Mapping
from typing import Any

from quantbench.report.blocks import Section, Table


def section(run: Mapping[str, Any]) -> Section:
    """Command, data, preprocessing, method, versions, hashes."""
    data = run["data"]
    rows = [
        ("Command", run["command"]),
        ("Time (UTC)", run["time"]),
        ("Model", f"{run['model']['path']}, sha256 {run['model']['sha256'][:16]}…"),
        ("Calibration", f"{run['method']}, {data['images']} images, sha256 {data['sha256'][:16]}…"),
        ("Preprocessing", f"{data['preprocess_words']} ({data['preprocess_origin']})"),
        ("Bias correction", "yes" if run["recipe"]["calibration"]["bias_correction"] else "no"),
        ("Seed", str(run["seed"])),
        ("Versions", ", ".join(f"{name} {version}" for name, version in run["versions"].items())),
        ("Machine", f"{run['machine']['processor']}, {run['machine']['cores']} cores, {run['machine']['system']}"),
    ]
    return Section("Provenance", (Table(("", ""), tuple(rows)),))
