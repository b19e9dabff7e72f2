"""What the processor can do, as far as the choice of kernels depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from llvmlite import binding
from numba.core import codegen, config


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor that Numba compiles for.

    Attributes:
        name: as LLVM calls it.
        features: LLVM's names of what it has.
    """

    name: str
    features: frozenset[str]

    @property
    def avx2(self) -> bool:
        """256-bit integers."""
        return "avx2" in self.features

    @property
    def avx512(self) -> bool:
        """Vectors of 512 bits, of integers of all sizes."""
        return {"avx512f", "avx512bw"} <= self.features

    @property
    def vnni(self) -> bool:
        """Four products of bytes added in 32 bits, in vectors of 256 bits."""
        return {"avx512vnni", "avx512vl"} <= self.features

    @property
    def vbmi2(self) -> bool:
        """Moving the chosen lanes of a vector of 16-bit integers together."""
        return {"avx512vbmi2", "avx512vl"} <= self.features

    @property
    def amx(self) -> bool:
        """Tile registers, and products of bytes in them."""
        return {"amx-tile", "amx-int8"} <= self.features

    @property
    def summary(self) -> str:
        """The name with the widest vectors, for people."""
        for feature in ("amx-int8", "avx512vnni", "avx512bw", "avx2", "sse4.1", "neon"):
            if feature in self.features:
                return f"{self.name} ({feature})"
        return f"{self.name} (generic)"


@cache
def detect() -> Cpu:
    """Return the processor, or what ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` say it is."""
    settings = config.__dict__
    name, listed = settings["CPU_NAME"], settings["CPU_FEATURES"]
    if name is None:
        name = binding.get_host_cpu_name()
    if listed is None:
        untyped: Any = codegen
        listed = untyped.get_host_cpu_features()
    return Cpu(name, frozenset(part[1:] for part in listed.split(",") if part.startswith("+")))
