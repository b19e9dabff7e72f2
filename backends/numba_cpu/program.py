"""A plan bound to memory: what one thread runs for a chunk of images.

All arrays are allocated once, with their channels padded and last; a value's memory is used again as
soon as nobody needs the value. The records that the kernels read hold the addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snnc.backends.numba_cpu import micro, neurons, shapes, stage, terms
from snnc.backends.numba_cpu.plan import Plan, ShapePlan, StagePlan, TermPlan
from snnc.backends.numba_cpu.request import Request
from snnc.backends.numba_cpu.shapes import Value
from snnc.backends.numba_cpu.terms import Packed, Values
from snnc.ir import snn

Array = NDArray[Any]
Action = Callable[[int], None]
"""Computes a part for some number of images."""


class Memory:
    """Arrays that are handed out, taken back and handed out again."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._free: list[Array] = []
        self._owners: dict[int, Array] = {}

    def take(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> Array:
        """Return an array of unknown content, aligned, with spare bytes behind it."""
        size = int(np.prod(shape)) * kind.itemsize
        fitting = [memory for memory in self._free if memory.nbytes >= size + terms.SLACK]
        if fitting:
            memory = min(fitting, key=lambda m: m.nbytes)
            self._free = [other for other in self._free if other is not memory]
        else:
            memory = terms.aligned_bytes(size + terms.SLACK)
        array = memory[:size].view(kind).reshape(shape)
        self._owners[array.ctypes.data] = memory
        return array

    def give_back(self, array: Array) -> None:
        """Let the memory of ``array`` be used for something else."""
        self._free.append(self._owners.pop(array.ctypes.data))


@dataclass(slots=True)
class Part:
    """One part of a program.

    Attributes:
        node: what it computes.
        run: computes it for some number of images.
        value: where its result is.
        states: where the final potentials and negative counts are, (images, height, width, padded channels).
    """

    node: snn.SnnNode
    run: Action
    value: Value
    states: tuple[Array, Array] | None = None
    kept: list[Array] = field(default_factory=list)


class Program:
    """Everything that one thread needs to run some images."""

    def __init__(self, request: Request, plan: Plan, packed: Mapping[str, Packed], images: int) -> None:
        """Allocate memory and fill in the records.

        Args:
            request: what is run.
            plan: how.
            packed: weights laid out as planned, by synapse.
            images: largest number of images at a time.
        """
        self.request = request
        self.packed = packed
        self.images = images
        self.parts: list[Part] = []
        self._memory = Memory()
        self._values: dict[str, Value] = {}
        self.given = {name: self._hold(name, place, False) for name, place in plan.given.items()}
        finished = request.finished(request.added_in_place())
        for part in plan.parts:
            made = self._shape(part) if isinstance(part, ShapePlan) else self._stage(part)
            self.parts.append(made)
            for name in finished.get(part.node.name, ()):
                self._memory.give_back(self._values.pop(name).values)

    def _hold(self, name: str, place: Values, constant: bool, summed: bool = False) -> Value:
        steps = 1 if constant or summed else self.request.steps
        shape = (steps, self.images, place.height, place.width, place.padded)
        value = Value(self._memory.take(shape, place.kind), place, constant)
        self._values[name] = value
        return value

    def _shape(self, part: ShapePlan) -> Part:
        read = [self._values[name] for name in part.node.inputs]
        value = self._hold(part.node.name, part.output, part.constant)
        node, request = part.node, self.request

        def run(images: int) -> None:
            shapes.apply(node, read, value, images, request.timesteps, request.steps)

        return Part(node, run, value)

    def _stage(self, part: StagePlan) -> Part:
        request, node, output = self.request, part.node, part.output
        fires = isinstance(node, snn.IntegrateFire)
        constant = isinstance(node, snn.Weighted) and all(term.constant for term in part.terms)
        general: list[Action] = []
        rows: list[tuple[dict[str, int], Packed]] = []
        for term in part.terms:
            if term.synapse is not None and term.choice is None:
                general.append(self._general(term, output))
            rows.append(self._term(term, constant))
        # What writes all currents goes first: then nothing needs to be cleared.
        rows.sort(key=lambda row: not row[0].get("complete", 0))
        value = self._hold(node.name, output, constant, summed=isinstance(node, snn.Readout))
        made = Part(node, lambda images: None, value)
        fields = {
            "steps": 1 if constant else request.steps,
            "driven": 1 if constant else request.timesteps,
            "accumulate": int(isinstance(node, snn.Readout) or (fires and request.barrier)),
            "height": output.height,
            "width": output.width,
            "channels": output.padded,
            "band_rows": part.band.rows,
            "band_steps": part.band.steps,
            "halo": max(packed.halo[0] for _, packed in rows),
            "output": value.values.ctypes.data,
            "output_pixel": output.pixel_bytes,
            "output_image": value.values.strides[1],
            "output_step": value.values.strides[0],
        }
        constant_only = not general and all(row["constant"] for row, _ in rows)
        fields["unchanging"] = int(fires and not request.barrier and constant_only)
        fields["columns"] = output.width + fields["halo"] + max(packed.halo[1] for _, packed in rows)
        if isinstance(node, snn.IntegrateFire):
            fields |= self._neuron(node, output, made)
        self._scratch_memory(part, fields, rows, made)
        stages = np.zeros(1, stage.STAGE)
        records = np.zeros(len(rows), stage.TERM)
        variants = np.zeros((len(rows), max(1, *(len(packed.variants) for _, packed in rows))), stage.VARIANT)
        for name, number in fields.items():
            stages[name] = number
        for k, (row, packed) in enumerate(rows):
            for name, number in row.items():
                records[name][k] = number
            for r, variant in enumerate(packed.variants):
                variants[k, r] = variant

        def run(images: int) -> None:
            for action in general:
                action(images)
            stages["images"] = images
            stage.run_stage(stages, records, variants, 0, 1)

        made.run = run
        return made

    def _term(self, term: TermPlan, alone: bool) -> tuple[dict[str, int], Packed]:
        """Return the record of a term, but for its scratch memory."""
        if term.choice is None:
            packed = Packed({"kind": stage.TERM_KINDS.index("current")})
            source = self._values[term.name]
        else:
            packed = self.packed[term.name]
            source = self._values[term.source]
        return packed.fields | {
            "constant": int(term.constant and not alone),
            "source": source.values.ctypes.data,
            "source_image": source.values.strides[1],
            "source_step": 0 if source.constant else source.values.strides[0],
        }, packed

    def _general(self, term: TermPlan, output: Values) -> Action:
        """Return what computes a synapse without a kernel, into a value of its own."""
        synapse, source = term.synapse, self._values[term.source]
        place = Values(output.height, output.width, output.channels, output.padded, np.dtype(np.int32), 0, 0)
        value = self._hold(term.name, place, source.constant)

        def run(images: int) -> None:
            if synapse is not None:
                shapes.convolve_slowly(synapse, source, value, images)

        return run

    def _neuron(self, node: snn.IntegrateFire, output: Values, made: Part) -> dict[str, int]:
        """Return the fields of a population."""
        request, neuron = self.request, node.neuron
        limit = neuron.largest(request.timesteps)
        capacity = neuron.capacity(request.timesteps) if neuron.memory else neurons.NO_CAPACITY
        takes_back = neuron.memory and not request.barrier
        settings = terms.aligned(np.array([capacity, limit, -int(takes_back)], np.int64))
        parameters = terms.aligned(neuron_parameters(node, output.padded, takes_back))
        kind = "units"
        if limit > 1:
            quick = node.threshold.max() <= neurons.LARGEST_THRESHOLD and limit < neurons.LARGEST_QUOTIENT
            kind = ("bytes" if output.kind == np.int8 else "words") if quick else "divided"
            kind = "twos" if quick and limit == 2 else kind
        made.kept += [settings, parameters]
        fields = {
            "neuron": stage.NEURON_KINDS.index(kind),
            "parameters": parameters.ctypes.data,
            "settings": settings.ctypes.data,
        }
        if request.record.states:
            shape = (self.images, output.height, output.width, output.padded)
            potential, count = (terms.aligned(np.zeros(shape, np.int32)) for _ in range(2))
            made.states = (potential, count)
            fields |= {"final_potential": potential.ctypes.data, "final_count": count.ctypes.data}
        return fields

    def _scratch_memory(
        self, part: StagePlan, fields: dict[str, int], rows: list[tuple[dict[str, int], Packed]], made: Part
    ) -> None:
        """Allocate the memory of one band; all stages of the program share it."""
        band, output = part.band, part.output
        over_steps = output.height == output.width == 1
        frames = -(-band.steps // micro.PIXELS) * micro.PIXELS if over_steps else band.steps
        line = fields["columns"] * output.padded * 4
        state = band.rows * output.width * output.padded * 4
        wanted: list[tuple[dict[str, int], str, int]] = [
            (fields, "current", (1 if fields["accumulate"] else frames) * band.rows * line),
            (fields, "potential", state),
            (fields, "count", state),
        ]
        if any(row["constant"] for row, _ in rows):
            wanted.append((fields, "constant", band.rows * line))
        for row, packed in rows:
            if packed.fields["kind"] == stage.TERM_KINDS.index("current"):
                continue
            if "tiles" in row and "padded_row" in row:
                row["over_steps"] = int(over_steps)
            sizes = terms.scratch_bytes(row, band, over_steps)
            if "padded" in sizes:
                row["padded_rows"] = terms.input_rows(row, band)
            wanted += [(row, name, size) for name, size in sizes.items()]
        arrays = [self._memory.take((size + terms.SLACK,), np.dtype(np.uint8)) for _, _, size in wanted]
        for (record, name, _), array in zip(wanted, arrays, strict=True):
            record[name] = array.ctypes.data
            self._memory.give_back(array)
        made.kept += arrays

    def run(self, images: int) -> Iterator[Part]:
        """Run the parts one by one; what a part gave is valid until the next is asked for."""
        for part in self.parts:
            part.run(images)
            yield part


def neuron_parameters(node: snn.IntegrateFire, padded: int, takes_back: bool) -> Array:
    """Return the table :data:`~snnc.backends.numba_cpu.neurons.PARAMETERS`, (5, padded) int32."""
    table = np.zeros((len(neurons.PARAMETERS), padded), np.int32)
    threshold = np.full(padded, 1 << 20, np.int32)  # spare channels never fire
    threshold[: node.channels] = node.threshold
    negative = 0 if node.negative_threshold is None else node.negative_threshold
    if not takes_back:
        negative = neurons.NEVER
    table[0] = threshold
    table[1, : node.channels] = node.bias
    table[2, : node.channels] = negative
    table[3] = (np.float32(1) / threshold.astype(np.float32)).view(np.int32)
    table[4, : node.channels] = node.v_init
    return table
