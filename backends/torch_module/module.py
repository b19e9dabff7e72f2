"""The module: arrays, state and the order of steps."""

# Where torch is absent, the checkers see its names as Any.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snnc.artefact import Artefact
from snnc.backends.torch_module.firing import Parameters, fired
from snnc.backends.torch_module.operators import array_of, count_function, highest, per_channel, propagated
from snnc.errors import InputError, NonFiniteError, UnknownOperationError, UsageError
from snnc.ir import snn
from snnc.ir.graph import NumberArray
from snnc.ir.layout import InputLayout
from snnc.ir.neuron import Schedule
from snnc.ir.operations import Operation, operations
from snnc.simulation.protocol import check_run


@dataclass(frozen=True, slots=True)
class Run:
    """What a run, or the steps of one so far, gave: in int32, or in float32 for a network in floats.

    Attributes:
        outputs: (batch, *shape) by the outputs' names: the read-outs.
        counts: (batch, *shape) int32 by the populations' names: ``N``.
        potentials: (batch, *shape) by the populations' names: ``v``.
        spikes: (batch, *shape) by the populations' names: those of the last step.
    """

    outputs: dict[str, Tensor]
    counts: dict[str, Tensor]
    potentials: dict[str, Tensor]
    spikes: dict[str, Tensor]


@dataclass(slots=True)
class _State:
    """What nodes keep from step to step, by their names.

    Attributes:
        timesteps: T of the run.
        t: steps that are over.
        v, count, spikes: of populations.
        read, sent: of functions of counts: the counts that they read, and what they gave of them.
        totals: of read-outs, without their bias.
    """

    timesteps: int
    t: int = 0
    v: dict[str, Tensor] = field(default_factory=dict)
    count: dict[str, Tensor] = field(default_factory=dict)
    spikes: dict[str, Tensor] = field(default_factory=dict)
    read: dict[str, list[Tensor]] = field(default_factory=dict)
    sent: dict[str, Tensor] = field(default_factory=dict)
    totals: dict[str, Tensor] = field(default_factory=dict)


class SpikingModule(nn.Module):
    """A spiking network as a module: ``module(x)`` are the values of the source network's outputs.

    ``x`` is what the source network takes, and the values are those of ``Artefact.decode``: before a final
    softmax or sigmoid, in the source's layout. An integer network gives the reference's results bit for bit.

    Weights, biases, thresholds and initial potentials are parameters that ask for no gradients. Where
    gradients are asked for, they pass through neurons as if nothing were rounded, and end at step functions
    and at functions of counts.

    Attributes:
        graph: the network.
        timesteps: T of a run by default.
    """

    def __init__(self, artefact: Artefact) -> None:
        """Take the arrays of an artefact.

        Raises:
            UsageError: a part of it runs as ordinary ONNX, it sees frames, or its neurons leak.
            UnknownOperationError: it holds a node or a setting that is not known.
        """
        super().__init__()
        if artefact.host is not None:
            raise UsageError(
                f"{len(artefact.host.nodes)} nodes run as ordinary ONNX, which is no part of the module, the "
                f"first "
                f"{artefact.host.nodes[0].name!r}: convert with host='none', or cut the network there"
            )
        if (what := artefact.graph.changing) is not None:
            raise UsageError(f"{artefact.graph.name} cannot be run as a module of PyTorch: {what}")
        self.graph = artefact.graph
        self.timesteps = artefact.graph.timesteps
        self._layouts, self._output_layouts = artefact.layouts, artefact.output_layouts
        self._prepares = artefact.preprocessing is not None
        self._kind = torch.float64 if self.graph.integer else torch.float32
        self._names: dict[tuple[str, str], str] = {}
        self._nodes = operations(self.graph)
        for number, node in enumerate(self._nodes):
            self._take(number, node)
        self._kinds = {name: tensor.dtype for name, tensor in self._tensors()}
        self._state: _State | None = None

    def _take(self, number: int, node: Operation) -> None:
        """Keep the arrays of a node."""
        match node:
            case snn.Encode():
                for name, values in (("gain", node.gain), ("offset", node.offset)):
                    self._keep(number, node, name, values)
                self._keep(number, node, "scale", np.full(1, node.scale, np.float32))
            case snn.ConstantCurrent():
                self._learn(number, node, "values", node.values)
            case snn.IntegrateFire():
                for name in ("threshold", "bias", "v_init"):
                    self._learn(number, node, name, getattr(node, name))
                for name in ("negative_threshold", "breakpoints", "step_values"):
                    values = getattr(node, name)
                    self._keep(number, node, name, None if values is None else values.astype(self._numpy))
            case snn.Readout():
                self._learn(number, node, "bias", node.bias)
            case snn.Delay():
                raise UnknownOperationError(f"{node.name!r} delays spikes, which no module of torch does yet")
            case _:
                array = array_of(node)
                if array is not None and array.learned:
                    self._learn(number, node, array.name, array.values)
                elif array is not None:
                    self._keep(number, node, array.name, array.values)

    @property
    def _numpy(self) -> Any:
        return np.float64 if self.graph.integer else np.float32

    def _learn(self, number: int, node: Operation, name: str, values: NumberArray) -> None:
        tensor = torch.from_numpy(values.astype(self._numpy))
        self._names[node.name, name] = f"n{number}_{name}"
        self.register_parameter(f"n{number}_{name}", nn.Parameter(tensor, requires_grad=False))

    def _keep(self, number: int, node: Operation, name: str, values: NumberArray | None) -> None:
        if values is not None:
            self._names[node.name, name] = f"n{number}_{name}"
            self.register_buffer(f"n{number}_{name}", torch.from_numpy(np.array(values)))

    def array(self, node: str, name: str) -> Tensor | None:
        """Return an array of a node, such as its ``weight``; ``None`` where it has none."""
        found = self._names.get((node, name))
        return None if found is None else getattr(self, found)

    def _known(self, node: Operation, name: str) -> Tensor:
        found: Tensor = getattr(self, self._names[node.name, name])
        return found

    def _tensors(self) -> list[tuple[str, Tensor]]:
        return [*self.named_parameters(), *self.named_buffers()]

    def forward(self, x: Tensor | Mapping[str, Tensor], timesteps: int | None = None) -> Any:
        """Run the network, and return the values of its outputs.

        Args:
            x: (batch, *shape) as the source network takes it; of several inputs by their names.
            timesteps: T; the calibrated value by default.

        Returns:
            (batch, *shape) float32; of several outputs by their names.

        Raises:
            InputError: ``x`` does not fit.
            UsageError: the module was cast to another type.
        """
        found = self.decode(self.run(self.encode(x), timesteps), timesteps)
        return next(iter(found.values())) if len(found) == 1 else found

    def encode(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Quantise a batch: ``q`` of each input, (batch, *canonical shape), whole numbers in floats.

        Args:
            x: as :meth:`forward` takes it.

        Raises:
            InputError: it does not fit.
        """
        self._require_exact()
        given = x if isinstance(x, Mapping) else {self.graph.input.name: x}
        missing = [node.name for node in self.graph.encoders if node.name not in given]
        if missing or len(given) != len(self.graph.encoders):
            listed = ", ".join(repr(node.name) for node in self.graph.encoders)
            raise InputError(
                f"{self.graph.name} takes the inputs {listed}, and got {', '.join(map(repr, given))}"
            )
        return {node.name: self._encoded(node, given[node.name]) for node in self.graph.encoders}

    def _encoded(self, node: snn.Encode, x: Tensor) -> Tensor:
        layout = self._layouts[node.name]
        if x.shape[1:] != layout.source_shape:
            wanted = ", ".join(map(str, ("batch", *layout.source_shape)))
            raise InputError(f"the module takes tensors of shape ({wanted}), not {tuple(x.shape)}")
        if self._prepares and not x.is_floating_point():
            raise InputError(
                f"the rows are {x.dtype}, and the network takes what its preprocessing makes of them: give "
                "artefact.preprocessing.apply(rows), in floats"
            )
        x = x.to(torch.float32).reshape(len(x), *layout.grid).permute(0, *(axis + 1 for axis in layout.axes))
        if not torch.isfinite(x).all():
            raise NonFiniteError("the input holds NaN or infinity; check the preprocessing")
        gain, offset = self.array(node.name, "gain"), self.array(node.name, "offset")
        if gain is not None and offset is not None:
            x = x * per_channel(gain, len(node.shape)) + per_channel(offset, len(node.shape))
        return torch.clamp(torch.round(x / self._known(node, "scale")), *node.range).to(self._kind)

    def decode(self, run: Run, timesteps: int | None = None) -> dict[str, Tensor]:
        """Return the values that the read-outs of a run stand for, in the source's units and layout.

        Args:
            run: of T steps.
            timesteps: T; the calibrated value by default.
        """
        steps, found = self.timesteps if timesteps is None else timesteps, {}
        for name, node in self.graph.readouts.items():
            unit = np.float32(node.scale / steps)
            y = run.outputs[name].to(self._kind)
            if node.gain is None:
                y = y * float(unit)
            else:
                y = y * per_channel(torch.from_numpy(node.gain * unit).to(y), len(node.shape))
            found[name] = _to_source(self._output_layouts[name], y.to(torch.float32))
        return found

    def run(self, q: Mapping[str, Tensor], timesteps: int | None = None) -> Run:
        """Run the network on quantised inputs.

        Args:
            q: of every input by its name; see :meth:`encode`.
            timesteps: T; the calibrated value by default. The network's settle steps follow.

        Raises:
            InputError: T is beyond the proved bounds.
        """
        self._require_exact()
        state = _State(self._checked(timesteps))
        given = {name: each.to(self._kind) for name, each in q.items()}
        steps = state.timesteps + self.graph.settle_steps
        if self.graph.schedule is Schedule.LAYERWISE:
            self._run_layers(given, state, steps)
        else:
            for _ in range(steps):
                self._advance(given, state)
        return self._told(state)

    def reset(self, timesteps: int | None = None) -> None:
        """Begin a run step by step.

        Args:
            timesteps: T; the calibrated value by default.

        Raises:
            UsageError: the network is layerwise.
            InputError: T is beyond the proved bounds.
        """
        if self.graph.schedule is Schedule.LAYERWISE:
            raise UsageError(
                f"{self.graph.name} is layerwise: each population waits for all of its inputs, so there are "
                f"no "
                "steps of the whole; use run"
            )
        self._state = _State(self._checked(timesteps))

    def step(self, q: Mapping[str, Tensor]) -> Run:
        """Run one step further; after T and the settle steps a run is over.

        Args:
            q: as :meth:`run` takes it, of the same batch in every step.

        Returns:
            What there is after this step.

        Raises:
            UsageError: :meth:`reset` was not called, or the run is over.
        """
        self._require_exact()
        state = self._state
        if state is None or state.t >= state.timesteps + self.graph.settle_steps:
            raise UsageError("no run has begun, or it is over: call reset first")
        self._advance({name: each.to(self._kind) for name, each in q.items()}, state)
        return self._told(state)

    def _checked(self, timesteps: int | None) -> int:
        steps = self.timesteps if timesteps is None else timesteps
        none = {node.name: np.zeros((0, *node.shape), np.int32) for node in self.graph.inputs}
        check_run(self.graph, none, steps, None)  # of no rows: only T is looked at
        return steps

    def _require_exact(self) -> None:
        """Refuse to compute in types that do not hold the integers."""
        for name, tensor in self._tensors():
            if tensor.dtype != self._kinds[name]:
                raise UsageError(
                    f"the module was cast from {self._kinds[name]} to {tensor.dtype}, in which its results "
                    f"would "
                    "differ: move it by .to(device) alone"
                )

    def _advance(self, q: Mapping[str, Tensor], state: _State) -> None:
        """Run every node for one step."""
        values: dict[str, Tensor] = {}
        for node in self._nodes:
            values[node.name] = self._value(node, [values[name] for name in node.inputs], q, state, state.t)
        state.t += 1

    def _run_layers(self, q: Mapping[str, Tensor], state: _State, steps: int) -> None:
        """Run node by node over all steps; a population begins to fire when all has arrived."""
        trains: dict[str, list[Tensor]] = {}
        for node in self._nodes:
            read = [[trains[name][t] for name in node.inputs] for t in range(steps)]
            if isinstance(node, snn.IntegrateFire):
                arrived = torch.stack([_sum(each) for each in read]).sum(0)
                bias = per_channel(self._known(node, "bias"), len(node.shape))
                state.v[node.name] = self._start(node, arrived) + state.timesteps * bias + arrived
                read = [[torch.zeros_like(arrived)] for _ in range(steps)]
            trains[node.name] = [self._value(node, each, q, state, t) for t, each in enumerate(read)]
        state.t = steps

    def _value(
        self, node: Operation, read: list[Tensor], q: Mapping[str, Tensor], state: _State, t: int
    ) -> Tensor:
        """Return what a node gives in step ``t``."""
        first = next(iter(q.values()))
        match node:
            case snn.Encode():
                return q[node.name] if t < state.timesteps else torch.zeros_like(q[node.name])
            case snn.ConstantCurrent():
                values = self._known(node, "values").expand(len(first), *node.shape)
                return values if t < state.timesteps else torch.zeros_like(values)
            case snn.IntegrateFire():
                return self._fire(node, _sum(read), state, t)
            case snn.Readout():
                total = _sum(read)
                state.totals[node.name] = (
                    state.totals[node.name] + total if node.name in state.totals else total
                )
                return total
            case snn.CountFunction():
                return self._changed(node, read, state)
            case snn.Delay():
                raise UnknownOperationError(f"{node.name!r} delays spikes, which no module of torch does yet")
            case _:
                array = array_of(node)
                return propagated(node, read, None if array is None else self.array(node.name, array.name))

    def _changed(self, node: snn.CountMaxPool | snn.Function, read: list[Tensor], state: _State) -> Tensor:
        """Return the change of a function of the counts that a node reads."""
        before = state.read.get(node.name)
        counts = read if before is None else [a + b for a, b in zip(before, read, strict=True)]
        if isinstance(node, snn.CountMaxPool):
            made = highest(counts[0], node.window)
        else:
            made = count_function(node, counts, self.array(node.name, "table"))
        change = made - state.sent[node.name] if node.name in state.sent else made
        state.read[node.name], state.sent[node.name] = counts, made
        return change

    def _start(self, node: snn.IntegrateFire, current: Tensor) -> Tensor:
        return per_channel(self._known(node, "v_init"), len(node.shape)).expand_as(current)

    def _fire(self, node: snn.IntegrateFire, current: Tensor, state: _State, t: int) -> Tensor:
        layerwise = self.graph.schedule is Schedule.LAYERWISE
        given = Parameters(
            *(self._known(node, name) for name in ("threshold", "bias", "v_init")),
            *(self.array(node.name, name) for name in ("negative_threshold", "breakpoints", "step_values")),
        )
        v = state.v[node.name] if node.name in state.v else self._start(node, current)
        count = state.count[node.name] if node.name in state.count else torch.zeros_like(current)
        m = v + current
        if not layerwise and t < state.timesteps:
            m = m + per_channel(given.bias, len(node.shape))
        spikes, v = fired(node, given, m, count, state.timesteps, layerwise=layerwise)
        state.v[node.name], state.count[node.name], state.spikes[node.name] = v, count + spikes, spikes
        return spikes

    def _told(self, state: _State) -> Run:
        kind = torch.int32 if self.graph.integer else torch.float32

        def told(values: Mapping[str, Tensor], kind: torch.dtype) -> dict[str, Tensor]:
            return {name: self._typed(value, kind) for name, value in values.items()}

        over = min(state.t, state.timesteps)
        outputs = {}
        for name, node in self.graph.readouts.items():
            bias = per_channel(self._known(node, "bias"), len(node.shape))
            outputs[name] = self._typed(state.totals[node.name] + over * bias, kind)
        return Run(outputs, told(state.count, torch.int32), told(state.v, kind), told(state.spikes, kind))

    def _typed(self, value: Tensor, kind: torch.dtype) -> Tensor:
        """Return a value as an integer; one that carries gradients stays in floats, which integers cannot."""
        return value if value.requires_grad else value.to(kind)


def _sum(read: list[Tensor]) -> Tensor:
    """Return the sum of currents, in their order."""
    total = read[0]
    for current in read[1:]:
        total = total + current
    return total


def _to_source(layout: InputLayout, y: Tensor) -> Tensor:
    back = sorted(range(len(layout.axes)), key=layout.axes.__getitem__)
    grid = y.reshape(len(y), *layout.shape).permute(0, *(axis + 1 for axis in back))
    return grid.reshape(len(y), *layout.source_shape)
