"""The backends and simulators: name -> loader, so that none is imported before it is asked for."""

from __future__ import annotations

if __name__ != "snnc.backends":
    raise ImportError("this folder is the package snnc.backends; import it by that name")

from collections.abc import Callable

from snnc.errors import UsageError
from snnc.target import Simulator


def _reference(threads: int | None) -> Simulator:
    from snnc.reference import ReferenceSimulator

    return ReferenceSimulator()


def _numba(threads: int | None) -> Simulator:
    from snnc.backends.numba_cpu import NumbaSimulator

    return NumbaSimulator(threads)


def _onnx(threads: int | None) -> Simulator:
    from snnc.backends.onnx_simulator import OnnxSimulator

    return OnnxSimulator(threads)


SIMULATORS: dict[str, Callable[[int | None], Simulator]] = {
    "numba": _numba,
    "onnx": _onnx,
    "reference": _reference,
}
"""Simulator name -> loader, given the number of threads (``None``: all cores)."""


def load_simulator(name: str, threads: int | None = None) -> Simulator:
    """Return the simulator called ``name``.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in SIMULATORS:
        raise UsageError(f"unknown simulator {name!r}; known: {', '.join(SIMULATORS)}")
    return SIMULATORS[name](threads)
