"""What results depend on beside the arguments: versions of snnc and its libraries, and the class of the CPU.

Integers are the same everywhere. What is computed in floats (the source network, least squares) has the
same bits on processors whose libraries choose the same kernels: of one machine type, with the same vector
instructions and the same kernels of the BLAS.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from snnc import __version__
from snnc.errors import ClusterError

LIBRARIES = ("numpy", "onnxruntime", "numba", "onnx")
VECTORS = ("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vnni", "avxvnni", "neon", "dotprod", "sve")
LINKED = ("backends", "models", "passes")
"""Rooms that a checkout links into the package."""

CPU = "CPU class"

Fingerprint = Mapping[str, str]
"""What a process is, by what it is called in messages."""


@cache
def fingerprint() -> Fingerprint:
    """Return what this process is."""
    import numpy  # noqa: F401 - brings the BLAS
    from llvmlite import binding
    from threadpoolctl import threadpool_info

    features = binding.get_host_cpu_features()
    vectors = [name for name in VECTORS if features.get(name, False)]
    blas = sorted({str(each.get("architecture")) for each in threadpool_info() if each["user_api"] == "blas"})
    found = {"snnc": f"{__version__} ({sources()})"}
    found |= {name: importlib.metadata.version(name) for name in LIBRARIES}
    found[CPU] = f"{platform.machine()} {'+'.join(vectors) or 'plain'}, BLAS for {'+'.join(blas) or 'any'}"
    return found


@cache
def sources() -> str:
    """Return the first digits of the SHA-256 of snnc's own source text: a version may be worked on."""
    package = Path(__file__).parent.parent
    roots = [package, *(package / name for name in LINKED)]
    digest = hashlib.sha256()
    for number, root in enumerate(roots):
        for path in sorted(root.rglob("*.py")):
            inside = path.relative_to(root)
            if number == 0 and inside.parts[0] in LINKED:
                continue
            digest.update(f"{number}/{inside.as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def require_alike(ours: Fingerprint, theirs: Fingerprint, who: str, *, cpu: bool = True) -> None:
    """Refuse a worker that might compute something else.

    Args:
        ours: what is expected.
        theirs: what the worker is.
        who: its address.
        cpu: whether the class of the CPU counts, too.

    Raises:
        ClusterError: naming the first difference.
    """
    for name, wanted in ours.items():
        found = theirs.get(name, "none")
        if found != wanted and (cpu or name != CPU):
            cure = (
                'take nodes of one class, or let the workers alone be alike by cpu = "workers"'
                if name == CPU
                else "install the same environment on every node"
            )
            raise ClusterError(f"the worker {who} has another {name}: {found}, not {wanted}; {cure}")
