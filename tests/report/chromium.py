"""A page in headless Chromium, without network: actions run in it, and what they found comes back as JSON."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND",
    "--virtual-time-budget=6000", "--dump-dom",
)  # fmt: skip
_WATCH = """<script>const faults = []; window.addEventListener("error", e => faults.push(e.message));
const loud = console.error; console.error = (...words) => { faults.push(words.join(" ")); loud(...words); };</script>"""
_REPORT = """<script>window.addEventListener("load", () => setTimeout(async () => {
const pause = () => new Promise(done => setTimeout(done, 300));
let found; try { found = await (async () => { %s })(); } catch (error) { faults.push(String(error)); }
const out = document.createElement("script"); out.type = "application/json"; out.id = "found";
out.textContent = JSON.stringify({ found, faults, requests: performance.getEntriesByType("resource").map(e => e.name) })
  .replaceAll("<", "\\\\u003c");
document.body.append(out); }, 500));</script>"""


def visit(page: Path, actions: str, folder: Path, size: str = "1200,900") -> dict[str, Any]:
    """Open `page` and run `actions` (JavaScript that returns plain data): found, faults of the console, requests."""
    text = page.read_text(encoding="utf-8")
    # The last one: the libraries in the page speak of </body> too.
    start, _, end = text.rpartition("</body>")
    text = start.replace("<head>", "<head>" + _WATCH, 1) + _REPORT % actions + "</body>" + end
    copy = folder / "visited.html"
    copy.write_text(text, encoding="utf-8")
    command = [str(CHROMIUM), *_FLAGS, f"--window-size={size}", f"--user-data-dir={folder / 'profile'}", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    _, _, rest = done.stdout.partition('<script type="application/json" id="found">')
    result: dict[str, Any] = json.loads(rest.partition("</script>")[0])
    return result
