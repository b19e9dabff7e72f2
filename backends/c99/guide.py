"""The guide of a C bundle: how to build it, how to call it, and what memory it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from snnc.backends.c99 import selftest
from snnc.backends.c99.layouts import LAYOUTS
from snnc.backends.c99.source import HEADER, SOURCE, WEIGHTS, Memory, comment, has_classes, sides
from snnc.ir.snn import SnnGraph

_YES = {True: "yes", False: "no"}


def guide(graph: SnnGraph, taken: Memory, most: int, fit: Sequence[Mapping[str, Any]], layout: str) -> str:
    """Return what an integrator has to know of the source.

    Args:
        graph: the network.
        taken: its memory.
        most: the largest T.
        fit: whether it fits known devices.
        layout: of the files.
    """
    arranged = LAYOUTS[layout]
    arguments = arranged.arguments(selftest.PROGRAM, SOURCE)
    inputs, outputs = sides(graph)
    declared = "\n".join(f"int32_t {port.argument}[SNNC_OUTPUTS{port.suffix}];" for port in outputs)
    given = ", ".join(port.argument for port in inputs)
    results = ", ".join(port.argument for port in outputs)
    taken_in = "\n".join(
        f"/* {port.argument}: int16_t, {'SNNC_TIMESTEPS frames of ' if port.frames else ''}"
        f"{' x '.join(map(str, port.node.shape))}, channels first"
        f"{f': the input {comment(port.name)}' if port.suffix else ''} */"
        for port in inputs
    )
    named = "".join(
        f"\n/* {port.argument} holds the output {comment(port.name)} */" for port in outputs if port.suffix
    )
    answer = "\nint32_t answer = snnc_class(y);" if has_classes(graph) else named
    told = "; each step is given its own frame" if any(port.frames for port in inputs) else ""
    rows = "\n".join(
        f"| {row['device']} | {row['ram_bytes']:,} | {row['flash_bytes']:,} | {_YES[row['fits']]} |"
        for row in fit
    )
    return f"""## Build and run it
{arranged.guide}
Compile `{arranged.sources}{SOURCE}` with any C99 compiler; it includes `{HEADER}`, `{WEIGHTS}` and
`<stdint.h>`, and nothing else. It allocates nothing and has no global variables: the caller keeps a
`snnc_state`, best a static one.

```c
#include "{HEADER}"

SNNC_STATE_SECTION static snnc_state state;
{declared}

{taken_in}
snnc_infer(&state, {given}, SNNC_TIMESTEPS, {results});{answer}
```

`snnc_begin()` and `snnc_step()` run it step by step, so that an answer can be read early{told}. `timesteps`
may be 1 to {most}. Compilers may call `memset` and `memcpy`, also freestanding ones. C++ may include the
header (an Arduino sketch does), and compile the source as C++11.

`cc -std=c99 -O2 {" ".join(arguments)} -o selftest && ./selftest` compares outputs, counts and
potentials with those of the reference on the golden inputs; `{selftest.PROGRAM}` needs `printf`.

The macros `SNNC_WEIGHTS_SECTION` and `SNNC_STATE_SECTION`, empty by default, place the weights and the state:
`-D'SNNC_STATE_SECTION=__attribute__((section(".dtcm")))'`. Both must be readable as ordinary memory.

## Memory

`sizeof(snnc_state)` is {taken.state:,} bytes, checked when compiled: {taken.states:,} for states and
{taken.buffers:,} for values within a step. Constants take {taken.constants:,} bytes. Code and about 1 kB of
stack come on top.

| device | RAM | flash | data and constants fit |
|---|---|---|---|
{rows}
"""
