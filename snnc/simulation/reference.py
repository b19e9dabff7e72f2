"""The reference: the definition of the spiking dialect in NumPy, spike by spike, slow and exact.

Every backend is compared with this module, so it prefers the plain form of each equation to a fast one.
What a trained network computes is defined by :func:`snnc.simulation.ann_reference.run_ann`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np

from snnc.errors import InternalError
from snnc.ir import snn
from snnc.ir.batch import Batch, Given, Rows, joined, rows_of
from snnc.ir.channels import per_channel
from snnc.ir.graph import FloatArray, IntArray, NumberArray
from snnc.ir.leak import DECAY_BITS
from snnc.ir.neuron import Schedule
from snnc.ir.operations import Firing, classified, firing, operations, unmatched
from snnc.simulation.arrays import convolve, gathered, slices, windows
from snnc.simulation.count_functions import count_function
from snnc.simulation.protocol import RecordOptions, Trace, check_run


def encode(node: snn.Encode, x: FloatArray) -> IntArray:
    """Quantise analogue inputs, (batch, *shape), or (batch, T, *shape) of frames, to int32 ``q``."""
    x = np.asarray(x, np.float32)
    x = x.reshape(*x.shape[: 2 if node.varies else 1], *node.shape)
    if node.gain is not None and node.offset is not None:
        x = x * per_channel(node.gain, len(node.shape)) + per_channel(node.offset, len(node.shape))
    scaled = np.rint(x / np.float32(node.scale))
    return np.clip(scaled, *node.range).astype(np.int32)


def encode_all(graph: snn.SnnGraph, rows: Rows) -> Rows:
    """Quantise the rows of all inputs of a network, each as :func:`encode` takes them, to int32 ``q``."""
    return joined({node.name: encode(node, rows_of(rows, node.name)) for node in graph.encoders})


def presented(node: snn.Encode, q: IntArray) -> IntArray:
    """Return what each of the T steps sees of quantised rows: the same, or frames, (T, batch, *shape)."""
    return np.moveaxis(q, 1, 0) if node.varies else q[np.newaxis]


def fire(
    node: snn.IntegrateFire, current: NumberArray, timesteps: int, schedule: Schedule
) -> tuple[NumberArray, NumberArray]:
    """Run one population: the definition of the neuron.

    Args:
        node: the population.
        current: (T + K, batch, *shape), the summed current of every step.
        timesteps: T.
        schedule: when it fires.

    Returns:
        The spikes, (T + K, batch, *shape), and the final potentials, (batch, *shape).
    """
    charge = None
    if schedule is Schedule.LAYERWISE:
        rank = len(node.shape)
        charge = timesteps * per_channel(node.bias, rank) + current.sum(axis=0)
    spikes = np.zeros_like(current)
    v = spikes[0]
    for t, (_, s, left) in enumerate(firing_steps(node, current, timesteps, charge)):
        spikes[t], v = s, left
    return spikes, v


def firing_steps(
    node: snn.IntegrateFire,
    current: Iterable[NumberArray],
    timesteps: int,
    charge: NumberArray | None = None,
) -> Iterator[tuple[NumberArray, NumberArray, NumberArray]]:
    """Yield of each step the potential that is reached, the spikes, and the potential that is left.

    Args:
        node: the population.
        current: of each step, (batch, *shape), taken one by one; the last ones may depend on spikes before.
        timesteps: T.
        charge: (batch, *shape), all that arrives in a run, where a population integrates it before it fires.
    """
    rank = len(node.shape)
    theta, bias = per_channel(node.threshold, rank), per_channel(node.bias, rank)
    rule, limit = firing(node), node.neuron.limit
    if rule is Firing.LEAKY:
        yield from leaky_steps(node, current)
        return
    capacity = node.neuron.capacity(timesteps)
    v: NumberArray | None = None
    count = np.zeros(1, np.int64)
    for t, arriving in enumerate(current):
        if v is None:
            v = _at_rest(node, arriving)
            v = v if charge is None else v + charge
            count = np.zeros(arriving.shape, np.int64)
        m = v
        if charge is None:
            m = m + arriving
            if t < timesteps:
                m = m + bias
        if rule is Firing.STEPS:
            change = step_function(node, m) - count
            s = change if limit is None else np.clip(change, -limit, limit)
            v, count = m, count + s
            yield m, s, v
            continue
        wanted = np.floor_divide(m, theta)
        match rule:
            case Firing.PLAIN:
                s = np.clip(wanted, 0, limit)
            case Firing.LIMITED | Firing.HESITANT | Firing.GRADED:
                high = capacity - count
                low = -count
                if limit is not None:
                    high, low = np.minimum(high, limit), np.maximum(low, -limit)
                if charge is not None:
                    low = np.zeros_like(low)
                if node.negative_threshold is not None:
                    wanted = np.where(
                        (wanted < 0) & (m >= -per_channel(node.negative_threshold, rank)), 0, wanted
                    )
                s = np.clip(wanted, low, high)
            case _:
                raise unmatched(rule)
        v = m - s * theta
        count = count + s.astype(np.int64)
        yield m, s, v


def _at_rest(node: snn.IntegrateFire, current: NumberArray) -> NumberArray:
    """Return the potentials before the first step, as many as there are currents, (batch, *shape)."""
    start = np.broadcast_to(per_channel(node.v_init, len(node.shape)), current.shape)
    return start.astype(current.dtype)


def leaky_steps(
    node: snn.IntegrateFire, current: Iterable[NumberArray]
) -> Iterator[tuple[NumberArray, NumberArray, NumberArray]]:
    """Yield the same as :func:`firing_steps` of a leaky population.

    Args:
        node: the population.
        current: of each step, (batch, *shape), taken one by one.
    """
    rank = len(node.shape)
    theta, bias = per_channel(node.threshold, rank), per_channel(node.bias, rank)
    taken = theta if node.reset_by is None else per_channel(node.reset_by, rank)
    v: NumberArray | None = None
    resting = np.zeros(1, np.int64)
    for i in filtered(node, current):
        if v is None:
            v, resting = _at_rest(node, i), np.zeros(i.shape, np.int64)
        m = leak(v, node.decay) + i + bias
        awake = resting == 0
        s = np.where(awake, np.clip(np.floor_divide(m, theta), 0, node.neuron.limit), 0).astype(i.dtype)
        after = m - s * taken
        if node.reset_to is not None:
            after = np.where(s > 0, per_channel(node.reset_to, rank), m).astype(i.dtype)
        m = np.where(awake, m, v)
        v = np.where(awake, after, v)
        resting = np.where(s > 0, node.refractory, np.maximum(resting - 1, 0))
        yield m, s, v


def filtered(node: snn.IntegrateFire | snn.Readout, current: Iterable[NumberArray]) -> Iterator[NumberArray]:
    """Yield the current that reaches the potential of a leaky node in each step, (batch, *shape).

    Args:
        node: the population or read-out.
        current: of each step, (batch, *shape), taken one by one.
    """
    i: NumberArray | None = None
    for coarse in current:
        arriving = coarse * coarse.dtype.type(1 << node.fraction_bits)
        before = None if i is None or node.synapse_decay is None else leak(i, node.synapse_decay)
        i = arriving if before is None else before + arriving
        yield i


def leak(v: NumberArray, decay: NumberArray | None) -> NumberArray:
    """Return what remains of potentials, (batch, *shape), after a step: ``v d``, or ``trunc(v d / 2^15)``."""
    if decay is None:
        return v
    product = v * per_channel(decay, v.ndim - 1).astype(v.dtype)
    if v.dtype.kind == "f":
        return product
    return np.sign(product) * (np.abs(product) >> DECAY_BITS)


def leaky_readout(node: snn.Readout, current: NumberArray) -> NumberArray:
    """Return the potentials of a leaky read-out after each step, (T, batch, *shape)."""
    return np.stack(list(readout_steps(node, current, len(current))))


def readout_steps(node: snn.Readout, current: Iterable[NumberArray], timesteps: int) -> Iterator[NumberArray]:
    """Yield what a read-out holds after each step, (batch, *shape).

    Args:
        node: the read-out.
        current: of each step, (batch, *shape), taken one by one.
        timesteps: T, the steps with a bias.
    """
    y: NumberArray | None = None
    for t, i in enumerate(filtered(node, current)):
        bias = per_channel(node.bias, len(node.shape)).astype(i.dtype)
        before = np.zeros_like(i) if y is None else leak(y, node.decay) if node.leaky else y
        y = before + i + bias if node.leaky or t < timesteps else before + i
        yield y


def step_function(node: snn.IntegrateFire, v: NumberArray) -> IntArray:
    """Return ``K``, the counts that a population's step function gives for potentials, (batch, *shape)."""
    if node.breakpoints is None or node.step_values is None:
        raise InternalError(f"{node.name!r} has no step function")
    found = np.empty(v.shape, np.int64)
    for channel in range(node.channels):
        points = node.breakpoints[channel % len(node.breakpoints)]
        found[:, channel] = node.step_values[np.searchsorted(points, v[:, channel], side="right")]
    return found


class ReferenceSimulator:
    """The spiking dialect, layer by layer over all steps; what delays close to circles, by repetition."""

    name: ClassVar[str] = "reference"

    def run(
        self,
        graph: snn.SnnGraph,
        inputs: Given,
        timesteps: int,
        record: RecordOptions = RecordOptions(),
        /,
        given: Mapping[str, NumberArray] | None = None,
    ) -> Trace:
        """Simulate; see :class:`snnc.simulation.protocol.Simulator`."""
        batch, given = check_run(graph, inputs, timesteps, given)
        needed = graph.ancestors(record.until or graph.outputs, frozenset(given))
        delays = [n for n in graph.of_type(snn.Delay) if n.name in needed and n.name not in given]
        if not delays:
            return self._once(graph, batch, timesteps, record, given)
        # In a run whose delays give nothing the first step is right; in the next one the second is, too.
        steps = timesteps + graph.settle_steps
        sources = tuple(dict.fromkeys(node.source for node in delays))
        until = (*(record.until or graph.outputs), *sources)
        asked = replace(record, trains=(*record.trains, *sources), until=until)
        kind = np.int32 if graph.integer else np.float32
        held: dict[str, NumberArray] = {n.name: np.zeros((steps, len(batch), *n.shape), kind) for n in delays}
        while True:
            trace = self._once(graph, batch, timesteps, asked, {**given, **held})
            found = {n.name: delayed({**given, **trace.trains}[n.source], n.steps) for n in delays}
            if all(np.array_equal(found[name], train) for name, train in held.items()):
                trace.trains = {n: t for n, t in {**trace.trains, **held}.items() if n in record.trains}
                return trace
            held = found

    def _once(
        self,
        graph: snn.SnnGraph,
        batch: Batch,
        timesteps: int,
        record: RecordOptions,
        given: Mapping[str, NumberArray],
    ) -> Trace:
        """Simulate a network whose delayed spikes are given."""
        rows = len(batch)
        steps = timesteps + graph.settle_steps
        needed = graph.ancestors(record.until or graph.outputs, frozenset(given))
        # While a network is being quantised, what is done is run in integers, whatever comes behind it.
        running = [node for node in graph if node.name in needed and node.name not in given]
        integer = all(getattr(node, "integer", True) for node in running)
        wide = np.int64 if integer else np.float32
        trains: dict[str, NumberArray] = {}
        trace = Trace(timesteps=timesteps, samples=rows)
        totals: dict[str, NumberArray] = {}
        for node in operations(graph):
            if node.name not in needed:
                continue
            if isinstance(node, snn.Delay) and node.name not in given:
                raise InternalError(f"what {node.name!r} delays is not known yet")
            if node.name in given:
                trains[node.name] = given[node.name].astype(wide)
                continue
            read = [trains[name] for name in node.inputs]
            match node:
                case snn.Encode():
                    train = np.zeros((steps, rows, *node.shape), wide)
                    train[:timesteps] = presented(node, rows_of(batch, node.name))
                case snn.ConstantCurrent():
                    train = np.zeros((steps, rows, *node.shape), wide)
                    train[:timesteps] = node.values
                case snn.IntegrateFire():
                    train, v = fire(node, np.add.reduce(read), timesteps, graph.schedule)
                    trace.add_population(node, train, v, record)
                case snn.Readout():
                    rank = len(node.shape)
                    if node.leaky:
                        total = leaky_readout(node, np.add.reduce(read))[-1]
                    else:
                        total = np.add.reduce(read).sum(axis=0) + timesteps * per_channel(node.bias, rank)
                    totals[node.name] = total.astype(np.int32 if integer else np.float32)
                    continue
                case _:
                    train = propagate(node, read)
                    if isinstance(node, snn.Function):
                        trace.add_function(node, train, record)
            if node.name in record.trains:
                trace.trains[node.name] = train.astype(np.int32 if integer else np.float32)
            trains[node.name] = train
        trace.add_outputs(graph, totals)
        return trace


def delayed(train: NumberArray, steps: int) -> NumberArray:
    """Return what was sent some steps before, (T, batch, *shape), and nothing before the first."""
    found = np.zeros_like(train)
    found[steps:] = train[: max(0, len(train) - steps)]
    return found


def propagate(node: snn.SnnNode, trains: list[NumberArray]) -> NumberArray:
    """Apply one operation without state to each step, or max-pooling to the counts."""
    first = trains[0]
    steps, batch = first.shape[:2]
    flat = first.reshape(steps * batch, *first.shape[2:])
    # Sums of products below 2^53 are exact in float64, and those below 2^31 are proved; NumPy multiplies
    # matrices of floats far faster than matrices of integers.
    exact = flat.astype(np.float64) if flat.dtype.kind == "i" else flat
    node = classified(node)
    match node:
        case snn.Convolution():
            y = convolve(exact, node.weight.astype(exact.dtype), node.window, node.groups).astype(flat.dtype)
        case snn.Linear():
            y = (exact @ node.weight.astype(exact.dtype).T).astype(flat.dtype)
        case snn.ChannelWeight():
            y = flat * per_channel(node.weight.astype(flat.dtype), len(node.shape))
        case snn.SumPool():
            y = windows(flat, node.window, 0).sum(axis=(4, 5))
        case snn.CurrentMaxPool():
            y = windows(flat, node.window, _lowest(flat)).max(axis=(4, 5))
        case snn.CountMaxPool():
            counts = np.cumsum(first, axis=0).reshape(flat.shape)
            highest = windows(counts, node.window, _lowest(flat)).max(axis=(4, 5))
            highest = highest.reshape(steps, batch, *node.shape)
            return np.diff(highest, axis=0, prepend=np.zeros_like(highest[:1]))
        case (
            snn.CountProduct()
            | snn.CountMatrixProduct()
            | snn.CountSoftmax()
            | snn.CountNormalisation()
            | snn.CountMaximum()
        ):
            read = [np.cumsum(train.astype(np.int64), axis=0) for train in trains]
            made = count_function(node, [each.reshape(-1, *each.shape[2:]) for each in read])
            made = made.reshape(steps, batch, *node.shape).astype(first.dtype)
            return np.diff(made, axis=0, prepend=np.zeros_like(made[:1]))
        case snn.Concat():
            return np.concatenate(trains, axis=2)
        case snn.Reshape():
            y = flat
        case snn.Pad():
            y = np.pad(flat, ((0, 0), *zip(node.before, node.after, strict=True)))
        case snn.Slice():
            y = flat[slices(node)]
        case snn.Gather():
            y = gathered(flat, node.index)
        case snn.Encode() | snn.ConstantCurrent() | snn.IntegrateFire() | snn.Readout() | snn.Delay():
            raise InternalError(f"{node.name!r} has a state or no input")
        case _:
            raise unmatched(node)
    return y.reshape(steps, batch, *node.shape)


def _lowest(x: NumberArray) -> float:
    return float(np.iinfo(str(x.dtype)).min) if x.dtype.kind == "i" else -np.inf
