"""``snnc doctor``: what a bug report should say about the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import click

from snnc import __version__
from snnc.cli.terminal import Terminal, Verb
from snnc.cores import available_cores

NEEDED = ("click", "numba", "numpy", "onnx", "onnxruntime", "rich", "threadpoolctl")
EXTRAS = {
    "report": ("jinja2", "matplotlib"),
    "plot": ("matplotlib",),
    "cluster": ("distributed",),
    "images": ("pillow",),
    "torch": ("onnxscript", "torch==2.13.0"),
    "train": ("torch",),
    "download": ("pooch",),
    "nir": ("h5py",),
    "events": ("faery", "h5py"),
    "loihi": ("h5py",),
    "docs": ("mkdocs-material", "mkdocstrings", "ruff"),
    "release": ("cyclonedx-bom", "setuptools", "twine"),
}
KERNELS = re.compile(r"kernels-[0-9a-f]{16}")
"""Names of the folders in the cache."""
VECTORS = (
    "sse4.2",
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512bw",
    "avx512vnni",
    "avxvnni",
    "amx-int8",
    "neon",
    "dotprod",
)


@click.command("doctor", cls=Verb)
@click.option("--mend", is_flag=True, help="Remove kernels of other versions.")
@click.option("--warm", is_flag=True, help="Compile kernels now, so that no later command waits for them.")
@click.pass_obj
def command(terminal: Terminal, /, mend: bool, warm: bool) -> int:
    """Show versions, processor, threads, the cache and which extras are installed.

    Exits with 1 if something that snnc needs is missing.
    """
    needed = {name: _version(name) for name in NEEDED}
    extras = {extra: {name: _version(name) for name in names} for extra, names in EXTRAS.items()}
    healthy = all(needed.values())
    found: dict[str, Any] = {
        "snnc": __version__,
        "python": platform.python_version(),
        "interpreter": sys.executable,
        "platform": platform.platform(),
        "healthy": healthy,
        "needed": needed,
        "extras": extras,
        "threads": {"cores": os.cpu_count(), "available": available_cores()},
        # What follows needs the packages above.
        "cpu": _cpu() if healthy else None,
        "cache": _cache() if healthy else None,
        "simulators": _simulators() if healthy else {},
    }
    if mend and healthy:
        found["mended"] = _mend()
    if warm and healthy:
        found["warmed"] = _warm()
    if terminal.json:
        terminal.data(found)
    else:
        terminal.table(("", ""), _rows(found))
    return int(not healthy)


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("snnc", found["snnc"]),
        ("Python", f"{found['python']} ({found['interpreter']})"),
        ("platform", found["platform"]),
        ("threads", f"{found['threads']['available']} of {found['threads']['cores']} cores"),
    ]
    if found["healthy"]:
        kept = "" if found["cache"]["writable"] else " (cannot be written: kernels are compiled every time)"
        rows += [
            ("processor", f"{found['cpu']['name']}: {' '.join(found['cpu']['features'])}"),
            ("kernel cache", f"{found['cache']['folder'] or 'no home'}{kept}"),
        ]
        if "mended" in found:
            removed, megabytes = found["mended"]["removed"], found["mended"]["megabytes"]
            rows.append(("mended", f"{removed} folders of old kernels removed, {megabytes} MB"))
        if "warmed" in found:
            kernels, seconds = found["warmed"]["kernels"], found["warmed"]["seconds"]
            rows.append(("warmed", f"{kernels} kernels ready after {seconds} s"))
    rows += [(name, version or "MISSING: reinstall snnc") for name, version in found["needed"].items()]
    for extra, versions in found["extras"].items():
        state = "installed" if all(versions.values()) else f"not installed: pip install {' '.join(versions)}"
        rows.append((f"extra {extra}", state))
    return rows + [(f"simulator {name}", state) for name, state in found["simulators"].items()]


def _version(need: str) -> str | None:
    """Return the version of a distribution; ``None`` if it is absent, or another than NAME==VERSION."""
    name, _, wanted = need.partition("==")
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return found if wanted in ("", found.partition("+")[0]) else None


def _cpu() -> dict[str, Any]:
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return {
        "name": binding.get_host_cpu_name(),
        "features": [name for name in VECTORS if features.get(name, False)],
    }


def _cache() -> dict[str, Any]:
    from snnc.backends.numba_cpu.machine.cache import cache_root, kernel_directory

    folder, wanted = kernel_directory(), cache_root()
    return {"folder": None if wanted is None else str(folder or wanted), "writable": folder is not None}


def _mend() -> dict[str, Any]:
    """Remove the kernels of other versions."""
    import shutil

    folders = _outdated()
    size = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "removed": sum(not folder.exists() for folder in folders),
        "megabytes": round(size / 1e6),
    }


def _warm() -> dict[str, Any]:
    """Compile the kernels that are not kept yet."""
    from snnc.backends.numba_cpu.execution.warming import compile_ahead

    start = perf_counter()
    return {"kernels": compile_ahead(), "seconds": round(perf_counter() - start, 1)}


def _outdated() -> list[Path]:
    """Return the folders with kernels that this version on this CPU does not use; links are left alone."""
    from snnc.backends.numba_cpu.machine.cache import cache_root, kernel_directory

    root, current = cache_root(), kernel_directory()
    if root is None or current is None:
        return []
    return sorted(
        folder
        for folder in root.iterdir()
        if KERNELS.fullmatch(folder.name)
        and folder.is_dir()
        and not folder.is_symlink()
        and folder != current
    )


def _simulators() -> dict[str, str]:
    from snnc.backends import SIMULATORS, load_simulator

    states = {}
    for name in SIMULATORS:
        try:
            load_simulator(name)
            states[name] = "ready"
        except ImportError as error:
            states[name] = f"broken: {error}"
    return states
