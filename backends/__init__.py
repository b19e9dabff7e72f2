"""The backends and simulators: name -> loader, so that none is imported before it is needed."""

from __future__ import annotations

if __name__ != "snnc.backends":
    raise ImportError("this folder is the package snnc.backends; import it by that name")

from collections.abc import Callable, Iterator

from snnc.errors import SnncError, UsageError
from snnc.plugins import Load, Plugged, broken, warn
from snnc.simulation.protocol import Simulator
from snnc.simulation.targets import Backend, Capabilities, LaidOut


def _reference(threads: int | None) -> Simulator:
    from snnc.simulation.reference import ReferenceSimulator

    return ReferenceSimulator()


def _numba(threads: int | None) -> Simulator:
    from snnc.backends.numba_cpu import NumbaSimulator

    return NumbaSimulator(threads)


def _onnx(threads: int | None) -> Simulator:
    from snnc.backends.onnx_simulator import OnnxSimulator

    return OnnxSimulator(threads)


def _akida(profile: str | None) -> Backend:
    from snnc.backends.akida import Akida

    return Akida(profile)


def _c99(profile: str | None) -> Backend:
    from snnc.backends.c99 import C99

    return C99(profile)


def _fpga(profile: str | None) -> Backend:
    from snnc.backends.fpga import Fpga

    return Fpga(profile)


def _loihi(profile: str | None) -> Backend:
    from snnc.backends.loihi import Loihi

    return Loihi(profile)


def _nir(profile: str | None) -> Backend:
    from snnc.backends.nir import Nir

    return Nir(profile)


def _spiking_onnx(profile: str | None) -> Backend:
    from snnc.backends.spiking_onnx import SpikingOnnx

    return SpikingOnnx(profile)


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


def _adopted(name: str, load: Load) -> Callable[[str | None], Backend]:
    """Return the loader of a target of another distribution."""

    def checked(profile: str | None) -> Backend:
        kind = load()
        try:
            made: Backend = kind(profile)  # type: ignore[operator]
            complete = made.name == name and isinstance(made.capabilities, Capabilities)
            complete = complete and all(map(callable, (made.check, made.emit, made.verify)))
        except SnncError:
            raise
        except Exception as error:
            raise broken("snnc.backends", name, f"{type(error).__name__}: {error}") from error
        if not complete:
            raise broken(
                "snnc.backends", name, "it is no Backend of that name, see snnc/simulation/protocol.py"
            )
        return made

    return checked


_BACKENDS: dict[str, Callable[[str | None], Backend]] = {
    "akida": _akida,
    "c99": _c99,
    "fpga": _fpga,
    "loihi": _loihi,
    "nir": _nir,
    "spiking-onnx": _spiking_onnx,
}

BACKENDS: Plugged[Callable[[str | None], Backend]] = Plugged("snnc.backends", _BACKENDS, _adopted)
"""Target name -> loader, given the profile (``None``: the target's default); those of other distributions,
behind the entry points, included."""


def usable_backends() -> Iterator[Backend]:
    """Yield every target in its default profile, and warn of those of other distributions that are broken."""
    for load in BACKENDS.values():
        try:
            yield load(None)
        except UsageError as error:
            warn(str(error))


def load_backend(name: str, profile: str | None = None, layout: str | None = None) -> Backend:
    """Return the backend of the target ``name``.

    Args:
        name: of the target.
        profile: of the target; its first by default.
        layout: of the files, where the target has several; its first by default.

    Raises:
        UsageError: there is no such target, or it has no such profile or layout.
    """
    if name not in BACKENDS:
        raise UsageError(f"unknown target {name!r}; known: {', '.join(BACKENDS)} (see snnc targets)")
    backend = BACKENDS[name](profile)
    if layout is None:
        return backend
    if not isinstance(backend, LaidOut):
        raise UsageError(f"the target {name} has one layout of its files; leave the layout {layout!r} out")
    return backend.laid_out(layout)


NOT_OFFERED: dict[str, str] = {
    "Speck, DYNAP-CNN": "not verified: samna, which checks and runs configurations, is fetched from its "
    "vendor's server and was not available; and the chip takes events, these networks numbers. A bundle of "
    "`nir`, profile `sinabs`, lists what does not fit the data sheet.",
    "SpiNNaker2": "not verified: py-spinnaker2 reads NIR, but is in no package registry, was not available, "
    "and needs the chip to run.",
    "Xylo": "at most 16 inputs and 1,000 hidden neurons, and no convolutions, by its data sheet: no "
    "converted image network fits. Its vendor's simulator, rockpool 3.1.0, reads none of the nodes that they "
    "need.",
}
"""Chips for which there is no target, and why."""
