"""The CPU simulator: compiled kernels over packed spikes, images in parallel over threads.

:mod:`~snnc.backends.numba_cpu.simulator` runs a network, :mod:`~snnc.backends.numba_cpu.kernels.counting` is
the compiled arithmetic, and :mod:`~snnc.backends.numba_cpu.machine.cache` keeps what was compiled.
"""

from snnc.backends.numba_cpu.simulator import NumbaSimulator

__all__ = ["NumbaSimulator"]
