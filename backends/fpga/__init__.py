"""Target ``fpga``: the network as memory images of a core in SystemVerilog."""

from __future__ import annotations

from snnc.backends.fpga.backend import Fpga as Fpga
