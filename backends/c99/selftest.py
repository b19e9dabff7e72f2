"""A C program that runs the network on its golden inputs and compares outputs, counts and potentials.

The states of all populations are compared by the FNV-1a hash of their values over all rows, each as a
little-endian int32, channels last: http://www.isthe.com/chongo/tech/comp/fnv/
"""

from __future__ import annotations

import numpy as np

from snnc.backends.c99.ports import c_index, ports
from snnc.backends.c99.program import Program
from snnc.backends.c99.source import HEADER, array, comment, has_classes
from snnc.backends.c99.widths import Width
from snnc.ir.batch import Batch, Rows
from snnc.ir.graph import IntArray
from snnc.ir.snn import Encode, IntegrateFire, SnnGraph
from snnc.simulation.targets import Golden

PROGRAM, VECTORS = "selftest.c", "golden.h"

OFFSET, PRIME = 2166136261, 16777619


def fnv(values: IntArray) -> int:
    """Return the 32-bit FNV-1a hash of int32 values."""
    digest = OFFSET
    for byte in np.ascontiguousarray(values, "<i4").tobytes():
        digest = ((digest ^ byte) * PRIME) & 0xFFFFFFFF
    return digest


def vectors(golden: Golden) -> str:
    """Return inputs and expected outputs as C."""
    rows = len(golden.y)
    return "\n".join(
        [
            "/* Golden vectors: inputs, and the outputs that they must give. */",
            "#include <stdint.h>\n",
            f"#define GOLDEN_ROWS {rows}\n",
            *(array(f"golden_{name}", Width.I16, values) for name, values in _numbered("q", golden.q)),
            *(array(f"golden_{name}", Width.I32, values) for name, values in _numbered("y", golden.y)),
        ]
    )


def _numbered(letter: str, rows: Rows) -> list[tuple[str, IntArray]]:
    """Return arrays with the names of C's arguments."""
    if not isinstance(rows, Batch):
        return [(letter, rows)]
    return [(f"{letter}{number}", array) for number, array in enumerate(rows.arrays.values())]


def golden_inputs(graph: SnnGraph) -> str:
    """Return the arguments by which C gives a golden ``row`` to the network, input by input."""
    return ", ".join(
        f"golden_{port.argument} + row * SNNC_INPUTS{port.suffix}"
        + (" * SNNC_TIMESTEPS" if port.frames else "")
        for port in ports(graph).values()
        if isinstance(port.node, Encode)
    )


def program(graph: SnnGraph, golden: Golden, lowered: Program) -> str:
    """Return the program. Potentials that are not kept are not compared: counts determine them."""
    number = c_index(graph)
    kept = {field.name for field in lowered.fields}
    populations = graph.of_type(IntegrateFire)
    checks, reports = [], []
    for index, node in enumerate(populations):
        counts, v = golden.counts[node.name], golden.potentials[node.name]
        for role, values in (("n", counts), ("v", v)):
            field = f"{role}_{number[node.name]}"
            if field not in kept:
                continue
            size = values[0].size
            digest = fnv(np.moveaxis(values, 1, -1))
            slot = 2 * index + (role == "v")
            checks.append(
                f"        for (int32_t i = 0; i < {size}; i++) {{\n"
                f"            hash[{slot}] = hashed(hash[{slot}], state.{field}[i]);\n        }}"
            )
            what = "counts" if role == "n" else "potentials"
            reports.append(
                f'    wrong += differs("{what} of {comment(node.name)}", hash[{slot}], {digest}u);'
            )
    results, arrays, compared = [], [], []
    for port in ports(graph).values():
        if isinstance(port.node, Encode):
            continue
        name, size = port.argument, f"SNNC_OUTPUTS{port.suffix}"
        results.append(name)
        large = "" if has_classes(graph) else "static "  # a map may be too large for a stack
        arrays.append(f"    {large}int32_t {name}[{size}];")
        compared.append(
            f"        for (int32_t i = 0; i < {size}; i++) {{\n"
            f"            same = same && {name}[i] == golden_{name}[row * {size} + i];\n        }}"
        )
    verdict = 'same ? "as expected" : "wrong"'
    told = f'"row %ld: %s\\n", (long)row, {verdict}'
    if has_classes(graph):
        told = f'"row %ld: class %ld, %s\\n", (long)row, (long)snnc_class(y), {verdict}'
    printed = f"        printf({told});"
    return f"""\
/* Runs the network on its golden inputs. Exits with 0 if every output, count and potential is as expected. */
#include <stdio.h>

#include "{HEADER}"
#include "{VECTORS}"

#define HASHES {max(2 * len(populations), 1)}

/* FNV-1a over the bytes of an int32, the lowest first. */
static uint32_t hashed(uint32_t hash, int32_t value)
{{
    for (int shift = 0; shift < 32; shift += 8) {{
        hash = (hash ^ (((uint32_t)value >> shift) & 255u)) * {PRIME}u;
    }}
    return hash;
}}

static int differs(const char *what, uint32_t found, uint32_t expected)
{{
    if (found != expected) {{
        printf("wrong: %s\\n", what);
    }}
    return found != expected;
}}

int main(void)
{{
    static snnc_state state;
    uint32_t hash[HASHES];
{chr(10).join(arrays)}
    int wrong = 0;
    for (int32_t i = 0; i < HASHES; i++) {{
        hash[i] = {OFFSET}u;
    }}
    for (int32_t row = 0; row < GOLDEN_ROWS; row++) {{
        int same = (int)snnc_infer(&state, {golden_inputs(graph)}, SNNC_TIMESTEPS, {", ".join(results)});
{chr(10).join(compared)}
{printed}
        wrong += !same;
{chr(10).join(checks)}
    }}
    (void)differs;
    (void)hashed;
{chr(10).join(reports)}
    printf("%s\\n", wrong ? "FAILED" : "PASSED");
    return wrong != 0;
}}
"""
