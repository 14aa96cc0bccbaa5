"""Build wheel and sdist, install both in clean environments, run them without a network, list what they bring along.

    python scripts/check_supply.py --pythons python3.10 python3.13 --lower --out docs/measured/reliability

For each Python: the wheel with the newest dependencies that the ranges allow, and with --lower the oldest (uv resolves
them); then `quantbench doctor`, `lint` and a PTQ run on a tiny model, in a network namespace of their own where the
machine allows one. Writes supply.json (what passed) and sbom.json (CycloneDX 1.5, of the first environment, with the
licences that the packages declare).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_LIST = """
import importlib.metadata as m, json
print(json.dumps([[d.metadata["Name"], d.version, d.metadata.get("License-Expression") or d.metadata.get("License") or
                   "; ".join(c.rpartition(":: ")[2] for c in d.metadata.get_all("Classifier") or () if "License" in c)]
                  for d in m.distributions()]))
"""
_MODEL = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.ptq.small_run import write_data, write_model
write_model(Path("m.onnx")); write_data(Path("data"))
"""


def run(*words: str | Path, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Output of a command. Raises RuntimeError with its last words where it fails."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, cwd=cwd, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(str(word) for word in words)[:200]}: {(done.stdout + done.stderr)[-700:]}")
    return done.stdout


def offline() -> list[str]:
    """What puts a command into a network namespace without interfaces; nothing where that is not allowed."""
    words = ["unshare", "-rn"]
    return (
        words
        if shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True).returncode == 0
        else []
    )


def installed(python: str, package: Path, folder: Path, *, lowest: bool) -> Path:
    """The Python of a new environment in `folder` with `package` in it."""
    run(python, "-m", "venv", folder)
    own = folder / "bin" / "python"
    if lowest:
        run(own, "-m", "pip", "install", "-q", "uv")
        run(folder / "bin" / "uv", "pip", "install", "-q", "--python", own, "--resolution", "lowest-direct", package)
    else:
        run(own, "-m", "pip", "install", "-q", package)
    return own


def tried(own: Path, work: Path) -> str:
    """Doctor, lint and a PTQ run with the environment's quantbench and no network; "" or what fails."""
    work.mkdir()
    plain = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [*offline(), str(own.parent / "quantbench")]
    try:
        run(own, "-c", _MODEL, _ROOT, cwd=work, environment=plain)
        run(*command, "doctor", cwd=work, environment=plain)
        run(
            *command, "ptq", "m.onnx", "--calib-data", "data", "--out", "r", "--no-compile", cwd=work, environment=plain
        )
        run(*command, "verify", "r", cwd=work, environment=plain)
    except RuntimeError as error:
        return str(error)
    return ""


def sbom(own: Path) -> dict[str, object]:
    """The packages of an environment as CycloneDX 1.5."""
    packages = sorted(json.loads(run(own, "-c", _LIST)), key=lambda row: str(row[0]).lower())
    components = [
        {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{str(name).lower()}@{version}",
         "licenses": [{"license": {"name": (text or "not declared").splitlines()[0][:120]}}]}
        for name, version, text in packages
    ]  # fmt: skip
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components}


def carried(wheel: Path) -> list[str]:
    """Files of others that the wheel itself carries, with the notices that name their licences."""
    names = zipfile.ZipFile(wheel).namelist()
    return sorted(name for name in names if "/vendor/" in name or name.rpartition("/")[2] in ("LICENSE", "NOTICE.md"))


def main() -> None:
    """All environments; exit code 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pythons", nargs="*", default=["python3.10", "python3.11", "python3.12", "python3.13"])
    parser.add_argument(
        "--lower", action="store_true", help="Try the lower ends of the ranges on the first Python too."
    )
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found: dict[str, str] = {}
    bill: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="supply-") as name:
        folder = Path(name)
        run(sys.executable, "-m", "venv", folder / "tools")
        tools = folder / "tools" / "bin" / "python"
        run(tools, "-m", "pip", "install", "-q", "build")
        run(tools, "-m", "build", "-o", folder / "dist", _ROOT)
        (wheel,), (sdist,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
        plans = [(python, wheel, False) for python in given.pythons]
        plans += [(given.pythons[0], wheel, True)] if given.lower else []
        plans += [(given.pythons[0], sdist, False)]
        for number, (python, package, lowest) in enumerate(plans):
            what = f"{'sdist' if package == sdist else 'wheel'}, {'lowest' if lowest else 'newest'} dependencies"
            version = subprocess.run([python, "-V"], capture_output=True, text=True) if shutil.which(python) else None
            if version is None or version.returncode:
                found[f"{Path(python).name}, {what}"] = "not on this machine"
                continue
            label = f"{version.stdout.strip()}, {what}"
            try:
                own = installed(python, package, folder / f"env{number}", lowest=lowest)
                found[label] = tried(own, folder / f"work{number}") or "passed"
                bill = bill or sbom(own)
            except RuntimeError as error:
                found[label] = str(error)
            shutil.rmtree(folder / f"env{number}", ignore_errors=True)
            print(label, found[label][:300], flush=True)
        files = carried(wheel)
    report = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "offline": bool(offline()),
              "environments": found, "carried by the wheel": files}  # fmt: skip
    print(json.dumps(report, indent=1))
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "supply.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (given.out / "sbom.json").write_text(json.dumps(bill, indent=1) + "\n", encoding="utf-8")
    if any(state not in ("passed", "not on this machine") for state in found.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
