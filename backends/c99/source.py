"""The texts of the C bundle: header, source and weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import Template

import numpy as np

from snnc import __version__
from snnc.backends.c99.firing import STEP_POPULATION
from snnc.backends.c99.functions import FUNCTION_STRUCTURES
from snnc.backends.c99.kernels import STRUCTURES, kernel_texts
from snnc.backends.c99.leaky import LEAKY_POPULATION
from snnc.backends.c99.memory import Places
from snnc.backends.c99.ports import Port, ports
from snnc.backends.c99.program import Call, Extent, Field, Program, Table, arena, bytes_of, render
from snnc.backends.c99.synapses import EVENTS
from snnc.backends.c99.widths import Width
from snnc.ir.graph import NumberArray
from snnc.ir.neuron import Schedule
from snnc.ir.snn import Encode, Function, IntegrateFire, Readout, SnnGraph

_LEAKY = (IntegrateFire, Readout)
HEADER, SOURCE, WEIGHTS = "snnc_network.h", "snnc_network.c", "snnc_weights.h"
STRUCTURE_BYTES = 64
PER_LINE = 16


@dataclass(frozen=True, slots=True)
class Memory:
    """Static memory of the network, in bytes.

    Attributes:
        states: potentials, counts and whatever else lives from step to step.
        buffers: values within a step.
        state: all that ``snnc_state`` holds.
        constants: weights and parameters.
    """

    states: int
    buffers: int
    state: int
    constants: int


def state_fields(program: Program, places: Places) -> list[Field]:
    """Return the arrays of ``snnc_state`` in their order: wide types first, so that nothing is padded."""
    buffers = [
        Field(arena(width), width, size, "values within a step")
        for width, size in places.sizes.items()
        if size
    ]
    counters = [
        Field("timesteps", Width.I32, 1, "T of this run"),
        Field("step", Width.I32, 1, "steps that have been run"),
    ]
    return sorted([*counters, *program.fields, *buffers], key=lambda item: -item.width.value)


def memory(program: Program, places: Places) -> Memory:
    """Return what the network takes."""
    fields = state_fields(program, places)
    raw = bytes_of(fields)
    buffers = sum(width.value * size for width, size in places.sizes.items())
    structures = sum(max(STRUCTURE_BYTES, 4 * (text.count(",") + 1)) for text in program.structures.values())
    constants = bytes_of(program.tables) + structures
    return Memory(raw - buffers, buffers, -(-raw // 4) * 4, constants)


def comment(text: str) -> str:
    """Return a name from the network so that it cannot end a comment or continue a line."""
    return (
        re.sub(r"[^A-Za-z0-9_.,:()/ -]", "_", text).replace("/*", "/_").replace("*/", "_/").replace("//", "/")
    )


def header(graph: SnnGraph, program: Program, places: Places, timesteps: int) -> str:
    """Return the header: the sizes, the state and the functions."""
    taken = memory(program, places)
    members = "\n".join(_member(item) for item in state_fields(program, places))
    return Template(_HEADER).substitute(
        _arguments(graph),
        name=comment(graph.name),
        version=__version__,
        sizes="\n".join(_sizes(graph)),
        classes=_CLASS_DECLARED if has_classes(graph) else "",
        timesteps=graph.timesteps,
        most=timesteps,
        settle=graph.settle_steps,
        steps="1" if graph.schedule is Schedule.LAYERWISE else "((timesteps) + SNNC_SETTLE_STEPS)",
        schedule=_SCHEDULES[graph.schedule],
        ram=taken.state,
        constants=taken.constants,
        members=members,
    )


def has_classes(graph: SnnGraph) -> bool:
    """Whether the answer may be a class: of one output that is no map."""
    return len(graph.outputs) == 1 and len(graph.readout.shape) == 1


def sides(graph: SnnGraph) -> tuple[list[Port], list[Port]]:
    """Return the inputs and the outputs."""
    found = ports(graph).values()
    return [port for port in found if isinstance(port.node, Encode)], [
        port for port in found if isinstance(port.node, Readout)
    ]


def _sizes(graph: SnnGraph) -> Iterator[str]:
    """Yield the macros of the inputs and outputs."""
    inputs, outputs = sides(graph)
    for port in inputs:
        shape = " x ".join(map(str, port.node.shape))
        which = f"; the input {comment(port.name)}" if port.suffix else ""
        note = f"/* int16_t {port.argument}[{shape}], channels first{which} */"
        yield f"#define SNNC_INPUTS{port.suffix} {port.size}         {note}"
        if isinstance(port.node, Encode):
            limit = f"#define SNNC_INPUT_LIMIT{port.suffix} {port.node.limit}"
            yield f"{limit}     /* largest magnitude of an input */"
    for port in outputs:
        shape = " x ".join(map(str, port.node.shape))
        which = f"channels first; the output {comment(port.name)}"
        note = f"         /* int32_t {port.argument}[{shape}], {which} */"
        yield f"#define SNNC_OUTPUTS{port.suffix} {port.size}{note if port.suffix else ''}"


def _arguments(graph: SnnGraph) -> dict[str, str]:
    """Return how C functions declare and pass the inputs and outputs.

    Still inputs are given where a run begins, frames in each step, and a whole run gets all of them.
    """
    inputs, outputs = sides(graph)
    still = [port for port in inputs if not port.frames]
    frames = [port for port in inputs if port.frames]

    def declared(ports_: Sequence[Port]) -> str:
        return "".join(f", const int16_t {d.argument}[SNNC_INPUTS{d.suffix}]" for d in ports_)

    everything = [
        f"const int16_t *{d.argument}" if d.frames else f"const int16_t {d.argument}[SNNC_INPUTS{d.suffix}]"
        for d in inputs
    ]
    seen = "".join(f", {d.argument} + frame * SNNC_INPUTS{d.suffix}" for d in frames)
    return {
        "inputs": ", ".join(everything),
        "still": declared(still),
        "frames": declared(frames),
        "outputs": ", ".join(f"int32_t {d.argument}[SNNC_OUTPUTS{d.suffix}]" for d in outputs),
        "given": "".join(f", {port.argument}" for port in still),
        "results": ", ".join(port.argument for port in outputs),
        "all_steps": Template(_ALL_FRAMES).substitute(seen=seen) if frames else _ALL_STEPS,
        "about_step": _ABOUT_STEP_OF_FRAMES if frames else _ABOUT_STEP,
        "about_infer": _ABOUT_INFER_OF_FRAMES if frames else _ABOUT_INFER,
    }


def _check(port: Port) -> str:
    q, limit = port.argument, f"SNNC_INPUT_LIMIT{port.suffix}"
    if port.frames:
        return f"""\
    for (int32_t i = 0; state->step < state->timesteps && i < SNNC_INPUTS{port.suffix}; i++) {{
        if ({q}[i] > {limit} || {q}[i] < -{limit}) {{
            return 0;
        }}
    }}
"""
    return f"""\
    for (int32_t i = 0; i < SNNC_INPUTS{port.suffix}; i++) {{
        if ({q}[i] > {limit} || {q}[i] < -{limit}) {{
            return 0;
        }}
    }}"""


def _written(port: Port) -> str:
    extent, y = Extent.of(port.node.shape), port.argument
    return f"""\
    for (int32_t pixel = 0; pixel < {extent.pixels}; pixel++) {{
        for (int32_t c = 0; c < {extent.channels}; c++) {{
            {y}[c * {extent.pixels} + pixel] = state->{y}[pixel * {extent.channels} + c];
        }}
    }}"""


def _member(item: Field) -> str:
    size = f"[{item.size}]" if item.name not in ("timesteps", "step") else ""
    return f"    {item.width.type} {item.name}{size}; /* {comment(item.note)} */"


def source(graph: SnnGraph, program: Program, places: Places) -> str:
    """Return the source."""
    barrier = graph.schedule is Schedule.LAYERWISE
    inputs, outputs = sides(graph)
    structures = "\n".join(
        f"static const {text.split(' ', 1)[0]} {name} = {text.split(' ', 1)[1]};"
        for name, text in program.structures.items()
    )
    return Template(_SOURCE).substitute(
        _arguments(graph),
        name=comment(graph.name),
        version=__version__,
        header=HEADER,
        weights=WEIGHTS,
        events=EVENTS,
        structures=STRUCTURES
        + (STEP_POPULATION if graph.only_timesteps else "")
        + (LEAKY_POPULATION if any(isinstance(n, _LEAKY) and n.leaky for n in graph) else "")
        + (FUNCTION_STRUCTURES if any(isinstance(node, Function) for node in graph) else ""),
        kernels=kernel_texts(program.kernels()),
        constants=structures,
        least="SNNC_TIMESTEPS" if graph.only_timesteps else 1,
        times="state->timesteps" if barrier else "state->step < state->timesteps",
        once=_calls(program.once, places),
        step=_calls(program.step, places),
        checks="\n".join(_check(port) for port in inputs if not port.frames),
        frame_checks="".join(_check(port) for port in inputs if port.frames),
        written="\n".join(map(_written, outputs)),
        classes=_CLASS if has_classes(graph) else "",
    )


def weights(program: Program) -> str:
    """Return the constants."""
    parts = ["/* Weights and parameters; included by the source alone. */\n#include <stdint.h>\n"]
    return "\n".join([*parts, *(_table(table) for table in program.tables)])


def _table(table: Table) -> str:
    text = array(table.name, table.width, table.values, section="SNNC_WEIGHTS_SECTION ")
    return f"/* {comment(table.note)} */\n{text}"


def array(name: str, width: Width, values: NumberArray, section: str = "") -> str:
    """Return the definition of a constant array, after a macro that places it."""
    flat = np.asarray(values).reshape(-1).tolist()
    # The lowest int32 has no literal of its own type.
    texts = ["INT32_MIN" if value == -(2**31) else str(value) for value in flat]
    lines = [", ".join(texts[i : i + PER_LINE]) for i in range(0, len(texts), PER_LINE)]
    inside = ",\n    ".join(lines)
    return f"{section}static const {width.type} {name}[{len(texts)}] = {{\n    {inside}\n}};\n"


def _calls(calls: Sequence[Call], places: Places) -> str:
    lines, note = [], ""
    for call in calls:
        if call.note and call.note != note:
            lines.append(f"    /* {comment(call.note)} */")
            note = call.note
        lines.append(f"    {render(call, places)}")
    return "\n".join(lines)


_SCHEDULES = {
    Schedule.SYNCHRONOUS: "Every population fires in every step.",
    Schedule.LAYERWISE: "Every population integrates all its input before it fires; one call of snnc_step()\n"
    "   makes the whole run, in one pass over spike counts, which equals T steps of firing per population.",
}

_HEADER = """\
/* $name, a spiking network compiled by snnc $version.

   $schedule
   Freestanding C99: only integers, no allocation, no global variables. */
#ifndef SNNC_NETWORK_H
#define SNNC_NETWORK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

$sizes
#define SNNC_TIMESTEPS $timesteps   /* T, as calibrated */
#define SNNC_MAX_TIMESTEPS $most    /* the largest T for which no integer overflows */
#define SNNC_SETTLE_STEPS $settle   /* K */
#define SNNC_STEPS(timesteps) $steps /* calls of snnc_step() in a run */

#define SNNC_RAM_BYTES $ram         /* sizeof(snnc_state): all memory but some stack */
#define SNNC_CONSTANT_BYTES $constants /* weights and parameters; add the code */

/* Where weights and state lie: attributes of your compiler, such as __attribute__((section(".dtcm"))),
   defined by its option -D. Both must be readable as ordinary memory. */
#ifndef SNNC_WEIGHTS_SECTION
#define SNNC_WEIGHTS_SECTION
#endif
#ifndef SNNC_STATE_SECTION
#define SNNC_STATE_SECTION
#endif

/* Everything that changes. Who calls keeps it, as often as networks are to run at a time:
   SNNC_STATE_SECTION static snnc_state state; */
typedef struct {
$members
} snnc_state;

typedef char snnc_ram_is_as_stated[sizeof(snnc_state) == SNNC_RAM_BYTES ? 1 : -1];

/* Begin a run of T = timesteps. Returns 1; or 0, and nothing is begun, where T is out of range or an input
   exceeds SNNC_INPUT_LIMIT. The inputs are read here and not kept. */
int32_t snnc_begin(snnc_state *state$still, int32_t timesteps);

$about_step
int32_t snnc_step(snnc_state *state$frames);

/* Write what the read-out has accumulated so far. */
void snnc_output(const snnc_state *state, $outputs);

$about_infer
int32_t snnc_infer(
    snnc_state *state, $inputs, int32_t timesteps, $outputs);
$classes
#ifdef __cplusplus
}
#endif

#endif
"""

_SOURCE = """\
/* $name, compiled by snnc $version. */
#include "$header"
#include "$weights"

#ifdef __cplusplus
#define restrict __restrict /* C++ has no such word, its compilers have this one */
#endif

#define EVENTS $events
$structures
$constants
$kernels
int32_t snnc_begin(snnc_state *state$still, int32_t timesteps)
{
    if (timesteps < $least || timesteps > SNNC_MAX_TIMESTEPS) {
        return 0;
    }
$checks
    state->timesteps = timesteps;
    state->step = 0;
$once
    return 1;
}

int32_t snnc_step(snnc_state *state$frames)
{
    const int32_t times = $times; /* how often constant currents count in this step */
    if (state->step >= SNNC_STEPS(state->timesteps)) {
        return 0;
    }
$frame_checks    (void)times;
$step
    state->step++;
    return 1;
}

void snnc_output(const snnc_state *state, $outputs)
{
$written
}

int32_t snnc_infer(
    snnc_state *state, $inputs, int32_t timesteps, $outputs)
{
    if (!snnc_begin(state$given, timesteps)) {
        return 0;
    }
$all_steps
    snnc_output(state, $results);
    return 1;
}
$classes"""

_ALL_STEPS = """\
    while (snnc_step(state)) {
    }"""

_ALL_FRAMES = """\
    for (int32_t t = 0; t < SNNC_STEPS(timesteps); t++) {
        const int32_t frame = t < timesteps ? t : timesteps - 1;
        if (!snnc_step(state$seen)) {
            return 0;
        }
    }"""

_ABOUT_STEP = "/* Run one step. Returns 1; or 0, and nothing happens, once the run is over. */"

_ABOUT_STEP_OF_FRAMES = """\
/* Run one step, which sees its own frame; settle steps ignore it. Returns 1; or 0, and nothing happens,
   once the run is over or where the frame exceeds SNNC_INPUT_LIMIT. */"""

_ABOUT_INFER = "/* Begin, run all steps, write the output. Returns what snnc_begin() returns. */"

_ABOUT_INFER_OF_FRAMES = """\
/* Begin, run all steps, write the output: a row is its frames, one behind the other, of the T steps.
   Returns 1; or 0 where snnc_begin() or snnc_step() does. */"""

_CLASS_DECLARED = """
/* The class: the index of the largest output, the lowest one on ties. */
int32_t snnc_class(const int32_t y[SNNC_OUTPUTS]);
"""

_CLASS = """
int32_t snnc_class(const int32_t y[SNNC_OUTPUTS])
{
    int32_t best = 0;
    for (int32_t i = 1; i < SNNC_OUTPUTS; i++) {
        if (y[i] > y[best]) {
            best = i;
        }
    }
    return best;
}
"""
