"""All checks, in one command that is the same on every system: `python -m tests`.

`python -m tests lint types` runs some of them; what follows `--` goes to pytest, as in
`python -m tests tests -- tests/unit -x`. CI and `make check` run this without arguments.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORES = os.cpu_count() or 1
WORKERS = min(4, CORES)
"""Processes that share the tests (tests/conftest.py); each holds a gigabyte or two."""
_LAYERS = "from importlinter.cli import lint_imports_command as run; run()"
CHECKS: dict[str, tuple[str, list[str]]] = {
    "format": ("ruff", ["-m", "ruff", "format", "--check", "."]),
    "lint": ("ruff", ["-m", "ruff", "check", "."]),
    "types": ("mypy", ["-m", "mypy"]),
    "layers": ("importlinter", ["-c", _LAYERS]),
    "tests": ("pytest", ["-m", "pytest", "-q", "-n", str(WORKERS), "--dist", "loadscope"]),
}
"""Name, the module that it needs, and the arguments for Python."""
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
_BROWSER_PATHS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)


def main(arguments: list[str]) -> int:
    """Runs the named checks, or all; 0 when all passed."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    names, for_pytest = arguments[:split] or list(CHECKS), arguments[split + 1 :]
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(f"no such check: {', '.join(unknown)}; there are {', '.join(CHECKS)}")
        return 2
    missing = {CHECKS[name][0] for name in names if find_spec(CHECKS[name][0]) is None}
    if missing:
        print(f'{", ".join(sorted(missing))} not installed: pip install -e ".[dev]"')
        return 2
    failed = [name for name in names if not _passes(name, for_pytest)]
    print(f"failed: {', '.join(failed)}" if failed else f"passed: {', '.join(names)}")
    return 1 if failed else 0


def find_browser() -> str:
    """A Chromium for the browser tests; Playwright's own is fetched where there is none.

    Returns:
        The path of its program, or "" (then those tests are skipped, and say so).
    """
    found = [os.environ.get("CHROMIUM", ""), *(shutil.which(name) or "" for name in _BROWSERS)]
    found += [path for path in _BROWSER_PATHS if Path(path).is_file()]
    chosen = next((path for path in found if path), "")
    if chosen or find_spec("playwright") is None:
        return chosen
    print("no Chromium on this machine: fetching Playwright's", flush=True)
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() else ""


def _passes(name: str, for_pytest: list[str]) -> bool:
    command = [sys.executable, *CHECKS[name][1]]
    environment = dict(os.environ)
    if name == "tests":
        command += for_pytest
        environment.setdefault("OMP_NUM_THREADS", str(CORES // WORKERS))
        environment["CHROMIUM"] = find_browser()
        if not environment["CHROMIUM"]:
            print("no Chromium: the browser tests are SKIPPED", flush=True)
            del environment["CHROMIUM"]
    print(f"== {name}", flush=True)
    began = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    print(f"== {name}: {'passed' if code == 0 else 'FAILED'} in {time.monotonic() - began:.0f} s")
    return code == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
