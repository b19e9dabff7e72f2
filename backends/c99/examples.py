"""An example program for each layout: it runs the network on its golden inputs and prints the answers."""

from __future__ import annotations

from collections.abc import Iterator

from snnc.backends.c99.selftest import VECTORS
from snnc.backends.c99.source import HEADER, has_classes, sides
from snnc.ir.snn import SnnGraph


def main_program(graph: SnnGraph, *, include: str = "<stdio.h>", call: str = "printf") -> str:
    """Return a program with a ``main``.

    Args:
        graph: the network.
        include: the header that declares ``call``.
        call: what prints, with the arguments of ``printf``.
    """
    answer = ": class %ld" if has_classes(graph) else ""
    value = " (long)snnc_class(y)," if answer else ""
    return f"""\
{_ABOUT}
#include {include}

#include "{VECTORS}"
#include "{HEADER}"

{_common(graph)}

int main(void)
{{
    int wrong = 0;
    for (int32_t row = 0; row < GOLDEN_ROWS; row++) {{
        int same = answers_as_expected(row);
        {call}("row %ld{answer}, %s\\n", (long)row,{value} same ? "as expected" : "wrong");
        wrong += !same;
    }}
    {call}("%s\\n", wrong ? "FAILED" : "PASSED");
    return wrong != 0;
}}
"""


def sketch(graph: SnnGraph) -> str:
    """Return the same as a sketch for the Arduino IDE, which prints to the serial monitor."""
    answer = '    Serial.print(": class ");\n    Serial.print((long)snnc_class(y));\n'
    return f"""\
{_ABOUT}
#include <{HEADER}>

#include "{VECTORS}"

{_common(graph)}

static int32_t row;
static int wrong;

void setup()
{{
    Serial.begin(115200);
}}

void loop()
{{
    if (row > GOLDEN_ROWS) {{
        return;
    }}
    if (row == GOLDEN_ROWS) {{
        Serial.println(wrong ? "FAILED" : "PASSED");
        row++;
        return;
    }}
    int same = answers_as_expected(row);
    Serial.print("row ");
    Serial.print((long)row);
{answer if has_classes(graph) else ""}    Serial.println(same ? ", as expected" : ", wrong");
    wrong += !same;
    row++;
}}
"""


_ABOUT = """\
/* Runs the network on its golden inputs, and prints whether the answers are as expected.
   A program of your own needs neither the golden vectors nor this comparison. */"""


def _common(graph: SnnGraph) -> str:
    """Return the memory and the comparison of one row."""
    inputs, outputs = sides(graph)
    arrays = "\n".join(f"static int32_t {port.argument}[SNNC_OUTPUTS{port.suffix}];" for port in outputs)
    given = [
        f"golden_{port.argument} + row * SNNC_INPUTS{port.suffix}{' * SNNC_TIMESTEPS' if port.frames else ''}"
        for port in inputs
    ]
    arguments = ", ".join([*given, "SNNC_TIMESTEPS", *(port.argument for port in outputs)])
    return f"""\
/* All that the network changes; SNNC_STATE_SECTION may place it in a memory of your choice. */
SNNC_STATE_SECTION static snnc_state state;
{arrays}

/* Run one golden input, and say whether every output is as expected. */
static int answers_as_expected(int32_t row)
{{
    int same = (int)snnc_infer(&state, {arguments});
{chr(10).join(_comparisons(graph))}
    return same;
}}"""


def _comparisons(graph: SnnGraph) -> Iterator[str]:
    for port in sides(graph)[1]:
        name, size = port.argument, f"SNNC_OUTPUTS{port.suffix}"
        yield f"    for (int32_t i = 0; i < {size}; i++) {{"
        yield f"        same = same && {name}[i] == golden_{name}[row * {size} + i];"
        yield "    }"
