"""Install a wheel under every Python that snnc supports, and convert and evaluate a network with it.

    python -m benchmarks.release.interpreters dist/snnc-*.whl [--tests] [3.12 ...]

An interpreter is ``python3.N`` on the PATH, or a folder of pyenv. What is not there is said. ``--tests`` also
runs the core of the test suite on this checkout. Needs a package index.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
WORKS = "works"
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
CORE = (
    "reference",
    "numba",
    "verification",
    "rewriter",
    "quantisation",
    "passes_snn",
    "artefact_file",
    "cli_convert",
)
"""Tests of what the references mean, of the simulator, the passes, the file and the command line."""
NEEDED_BY_TESTS = ("pytest", "hypothesis", "jsonschema", "pillow")
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


def trial(python: str, wheel: Path, tests: bool) -> str:
    """Return what came of an installation, and of the tests where they are wanted.

    It is ``works`` with what was done, or the last line of what went wrong.
    """
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
        if not tests:
            return f"{WORKS}: installed, a network converted and evaluated"
        install = [str(program / "python"), "-m", "pip", "install", "--quiet", *NEEDED_BY_TESTS]
        subprocess.run(install, capture_output=True, check=True)
        files = [f"tests/test_{name}.py" for name in CORE]
        command = [str(program / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines() or ["no output"]
        told = "; ".join([lines[-1], *(line for line in lines if line.startswith("FAILED"))])
    return f"{WORKS}; the tests: {told}" if done.returncode == 0 else f"the tests: {told}"


def main(arguments: list[str]) -> int:
    """Print a table; 1 if an interpreter that is there does not work."""
    (wheel,) = (name for name in arguments if name.endswith(".whl"))
    wanted = [name for name in arguments if name in VERSIONS] or VERSIONS
    print("| Python | result |\n|---|---|")
    failed = 0
    for version in wanted:
        python = interpreter(version)
        result = (
            "not tested: there is none here"
            if python is None
            else trial(python, Path(wheel), "--tests" in arguments)
        )
        failed += python is not None and not result.startswith(WORKS)
        print(f"| {version} | {result} |", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
