"""Install a wheel under every Python that snnc supports, and convert and evaluate a network with it.

    python -m benchmarks.release.interpreters dist/snnc-*.whl

An interpreter is ``python3.N`` on the PATH, or a folder of pyenv. What is not there is said. Needs a package
index.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
TRIAL = (
    ("convert", "zoo:fashion-cnn", "--preset", "fast", "-T", "2", "-o", "n.snn.onnx"),
    ("eval", "n.snn.onnx", "--limit", "100"),
)


def interpreter(version: str) -> str | None:
    """Return the path of a Python that runs, or ``None``."""
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for path in (shutil.which(f"python{version}"), *map(str, pyenv)):
        if (
            path is not None
            and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0
        ):
            return path
    return None


def trial(python: str, wheel: Path) -> str:
    """Return what came of an installation: ``works``, or the last line of what went wrong."""
    with tempfile.TemporaryDirectory(prefix="snnc-release-") as folder:
        program = Path(folder) / "venv" / "bin"
        calls = [
            [python, "-m", "venv", str(program.parent)],
            [str(program / "python"), "-m", "pip", "install", "--quiet", str(wheel.resolve())],
            *([str(program / "snnc"), *words] for words in TRIAL),
        ]
        for call in calls:
            done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                return f"{Path(call[0]).name} {call[1]}: {(done.stderr.splitlines() or ['no output'])[-1]}"
    return "works"


def main(arguments: list[str]) -> int:
    """Print a table; 1 if an interpreter that is there does not work."""
    (name,) = arguments
    print("| Python | result |\n|---|---|")
    failed = 0
    for version in VERSIONS:
        python = interpreter(version)
        result = "not installed here" if python is None else trial(python, Path(name))
        failed += result not in ("works", "not installed here")
        print(f"| {version} | {result} |", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
