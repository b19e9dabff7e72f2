"""Running a network that is not quantised: float32, all steps of a chunk as one batch for onnxruntime.

Events do not pay here: a fused multiply-add costs as much as an add, and onnxruntime's convolutions
run near the machine's limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from snnc.backends.numba_cpu.kernels import fire_floats
from snnc.backends.numba_cpu.request import Request
from snnc.ir import snn
from snnc.ir.graph import NumberArray
from snnc.reference import per_channel, propagate
from snnc.target import Activity, Trace

OPSET = 17
IR_VERSION = 9

Floats = NDArray[np.float32]
Operation = Callable[[list[Floats]], Floats]
"""Maps the trains of a node's inputs, (steps, images, *shape) each, to its own."""


class FloatRun:
    """One run of a network in float32; channels first, as onnxruntime wants them."""

    def __init__(
        self,
        request: Request,
        inputs: NumberArray,
        given: Mapping[str, NumberArray],
        operations: dict[str, Operation],
    ) -> None:
        """Prepare a run.

        Args:
            request: what is asked for.
            inputs: (batch, *input shape), the quantised input.
            given: trains of nodes that are not run, (T + K, batch, *shape).
            operations: made by earlier runs of this network; those missing are added.
        """
        self.request = request
        self.inputs = inputs
        self.given = given
        for node in request.nodes:
            if node.name not in operations and not isinstance(node, _WITH_STATE):
                operations[node.name] = _operation(node)
        self.operations = operations
        self._finished = request.finished()
        self._kept = Trace(timesteps=request.timesteps, samples=len(inputs))
        self._allocate()

    def _allocate(self) -> None:
        kept, record = self._kept, self.request.record
        batch = len(self.inputs)
        for node in self.request.nodes:
            if isinstance(node, snn.Readout):
                kept.outputs = np.empty((batch, *node.shape), np.float32)
                continue
            if isinstance(node, snn.IntegrateFire) and record.states:
                kept.counts[node.name] = np.empty((batch, *node.shape), np.int32)
                kind = np.int32 if node.integer else np.float32
                kept.potentials[node.name] = np.empty((batch, *node.shape), kind)
            if node.name in record.trains:
                kept.trains[node.name] = np.empty((self.request.steps, batch, *node.shape), np.float32)

    @property
    def bytes_per_image(self) -> int:
        """Memory that the largest train of one image takes."""
        return 4 * self.request.steps * max((int(np.prod(n.shape)) for n in self.request.nodes), default=1)

    def run(self, start: int, stop: int) -> dict[str, Activity]:
        """Run the images from ``start`` to ``stop``, and return the activity of the populations."""
        request, kept = self.request, self._kept
        activity: dict[str, Activity] = {}
        trains: dict[str, Floats] = {
            name: np.ascontiguousarray(train[:, start:stop], np.float32) for name, train in self.given.items()
        }
        for node in request.nodes:
            read = [trains[name] for name in node.inputs]
            match node:
                case snn.Encode():
                    train = np.zeros((request.steps, stop - start, *node.shape), np.float32)
                    train[: request.timesteps] = self.inputs[start:stop]
                case snn.ConstantCurrent():
                    train = np.zeros((request.steps, stop - start, *node.shape), np.float32)
                    train[: request.timesteps] = node.values
                case snn.IntegrateFire():
                    train, v = _fire(node, _added(read), request.timesteps, request.barrier)
                    if request.record.states:
                        kept.counts[node.name][start:stop] = train.sum(axis=0)
                        kept.potentials[node.name][start:stop] = v
                    if request.record.activity:
                        activity[node.name] = Activity.of(train)
                case snn.Readout():
                    total = _added(read).sum(axis=0)
                    if kept.outputs is not None:
                        bias = per_channel(node.bias, total.ndim)
                        kept.outputs[start:stop] = total + request.timesteps * bias
                    continue
                case _:
                    train = self.operations[node.name](read)
            if node.name in kept.trains:
                kept.trains[node.name][:, start:stop] = train
            trains[node.name] = train
            for name in self._finished.get(node.name, ()):
                del trains[name]
        return activity

    def trace(self, activities: Iterable[dict[str, Activity]]) -> Trace:
        """Return what was kept, with the activity of all chunks."""
        self._kept.activity = self.request.total(activities)
        return self._kept


_WITH_STATE = (snn.Encode, snn.ConstantCurrent, snn.IntegrateFire, snn.Readout)


def _added(trains: list[Floats]) -> Floats:
    return trains[0] if len(trains) == 1 else np.add.reduce(trains)


def _operation(node: snn.SnnNode) -> Operation:
    """Return the function that computes a node without state."""
    if isinstance(node, snn.Convolution | snn.Linear):
        return _synapse(node)
    return lambda trains: propagate(node, list(trains)).astype(np.float32, copy=False)


def _synapse(node: snn.Convolution | snn.Linear) -> Operation:
    """Return an onnxruntime session of one operator, on one thread: images run in parallel."""
    if isinstance(node, snn.Linear):
        operator = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    else:
        window = node.window
        operator = helper.make_node(
            "Conv",
            ["x", "w"],
            ["y"],
            kernel_shape=window.kernel,
            strides=window.strides,
            pads=window.pads,
            dilations=window.dilations,
            group=node.groups,
        )
    free = [None] * (len(node.shape) + 1)
    graph = helper.make_graph(
        [operator],
        "synapse",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, free)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, free)],
        [numpy_helper.from_array(node.weight.astype(np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run(trains: list[Floats]) -> Floats:
        (x,) = trains
        flat = np.ascontiguousarray(x.reshape(-1, *x.shape[2:]))
        (y,) = session.run(None, {"x": flat})
        return np.asarray(y, np.float32).reshape(*x.shape[:2], *node.shape)

    return run


def _fire(
    node: snn.IntegrateFire, current: Floats, timesteps: int, barrier: bool
) -> tuple[Floats, NumberArray]:
    """Run one population; see :func:`snnc.reference.fire`.

    Args:
        node: the population.
        current: (steps, images, *shape).
        timesteps: T.
        barrier: whether all input comes before the first spike.

    Returns:
        The spikes, (steps, images, *shape), and the final potentials, (images, *shape).
    """
    layout = (*current.shape[:2], node.channels, -1)
    spikes = np.empty_like(current)
    v = np.empty(current.shape[1:], np.float32)
    negative = np.zeros_like(node.threshold) if node.negative_threshold is None else node.negative_threshold
    parameters = np.stack([node.threshold, node.bias, node.v_init, negative]).astype(np.float32)
    capacity = node.neuron.capacity(timesteps) if node.neuron.memory else 0
    limit = np.inf if node.neuron.limit is None else float(node.neuron.limit)
    fire_floats(
        np.ascontiguousarray(current).reshape(layout),
        timesteps,
        parameters,
        capacity,
        limit,
        barrier,
        spikes.reshape(layout),
        v.reshape(layout[1:]),
    )
    return spikes, v
