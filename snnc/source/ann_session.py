"""Fast execution of a network of the ANN dialect: exported as plain ONNX to onnxruntime."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from snnc.errors import InternalError
from snnc.ir import ann
from snnc.ir.batch import Rows, rows_of
from snnc.ir.channels import per_channel
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray, IntArray
from snnc.ir.operations import check_known
from snnc.numerics.spill import RowArray, row_array
from snnc.scale.tasks import Shared
from snnc.scale.workers import Workers
from snnc.source.function_nodes import write_function
from snnc.source.remote import CHUNK as CHUNK
from snnc.source.remote import sample, sampled, streamed, within

FEED = "in:"
"""Put before the name of an input: the tensor that is fed."""

FED = "fed:"
"""Put before the name of a node whose values the caller gives."""

VALUE = "value:"
"""Put before the name of a node. Every tensor has a word before its name, so that no two are called alike."""

MOST_BYTES = 1 << 30
"""Weights of more bytes are given beside the model: protobuf holds 2 GiB."""

AHEAD_BYTES = 512 << 20
"""What the values of calls that run at once may take, as long as it is more than one call."""


class AnnSession:
    """A network of the ANN dialect in onnxruntime.

    Each call runs on one thread and several calls run at once, so that every value is the same bits
    whatever the number of threads.
    """

    def __init__(
        self,
        graph: ann.AnnGraph,
        names: Sequence[str],
        threads: int | None = None,
        fed: Sequence[str] = (),
        workers: Workers | None = None,
    ) -> None:
        """Prepare to compute the nodes called ``names``.

        Args:
            graph: the network.
            names: what to compute; a name may be given twice.
            threads: how many calls run at once.
            fed: nodes whose values the caller will give to :meth:`run_fed`; they are not computed.
            workers: who computes many rows; every call has the same rows as in this process.
        """
        names = tuple(dict.fromkeys(names))
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._shapes = tuple(graph[name].shape for name in names)
        # What is asked for is kept until it is read; beside it stand the input and output of a node.
        widest = max(math.prod(node.shape) for node in graph)
        self._chunk_bytes = 4 * CHUNK * (sum(math.prod(shape) for shape in self._shapes) + 2 * widest)
        self._large = 2 * self._chunk_bytes > AHEAD_BYTES
        options.enable_cpu_mem_arena = not self._large  # which would keep the largest of all calls
        model = to_onnx(graph, names, fed)
        # onnxruntime reads them where they lie, so they must stay.
        self._apart = _take_weights(model) if _weight_bytes(model) > MOST_BYTES else {}
        if self._apart:
            options.add_external_initializers(list(self._apart), list(self._apart.values()))
        # Merged into a pooling, a padding whose input is asked for, too, would read a name that is gone.
        self._session = ort.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["Pad_Fusion"],
        )
        self._workers = workers if not self._apart else None  # protobuf does not hold what would be sent
        self._shared = None if self._workers is None else Shared.of(model.SerializeToString())
        self._names = names
        self._inputs = tuple(node.name for node in graph.inputs)
        self._fed = {entry.name for entry in self._session.get_inputs()}
        self._threads = threads or os.cpu_count() or 1

    def stream(self, x: Rows) -> Iterator[tuple[slice, dict[str, FloatArray]]]:
        """Yield the values of consecutive chunks of rows, with the rows that they belong to.

        Where they are large, one chunk is computed at a time, and is gone when the next is asked for.

        Args:
            x: (rows, *input shape) float32, channels first; of several inputs a batch.
        """
        if self._workers is not None and self._shared is not None and len(x) > CHUNK:
            yield from streamed(self._workers, self._shared, self._names, self._feeds, x)
            return
        slices = [slice(start, start + CHUNK) for start in range(0, len(x), CHUNK)]

        def run(rows: slice) -> dict[str, FloatArray]:
            values = self._session.run(None, self._feeds(x[rows]))
            return dict(zip(self._names, map(np.asarray, values), strict=True))

        if self._large:
            for rows in slices:
                values = run(rows)
                yield rows, values
                values.clear()
            return
        with ThreadPoolExecutor(self._threads) as pool:
            ahead = max(1, min(self._threads + 1, AHEAD_BYTES // self._chunk_bytes))
            running = [pool.submit(run, rows) for rows in slices[:ahead]]
            for index, rows in enumerate(slices):
                values = running[index].result()
                if index + ahead < len(slices):
                    running.append(pool.submit(run, slices[index + ahead]))
                running[index] = None  # type: ignore[call-overload]
                yield rows, values

    def sampled(
        self, x: Rows, chosen: IntArray, places: Mapping[str, IntArray]
    ) -> Iterator[dict[str, tuple[FloatArray, FloatArray, FloatArray]]]:
        """Yield of consecutive rows what is kept of their values, and the extremes of each channel.

        Args:
            x: (rows, *input shape) float32, channels first; of several inputs a batch.
            chosen: (rows,), in order, those of which values are kept.
            places: (rows, positions) of each node, the positions that are kept of these.
        """
        if self._workers is not None and self._shared is not None and len(x) > CHUNK:
            yield from sampled(self._workers, self._shared, self._names, self._feeds, x, chosen, places)
            return
        for rows, values in self.stream(x):
            inside = within(chosen, rows)
            at = chosen[inside] - rows.start
            yield {name: sample(value, at, places[name][inside]) for name, value in values.items()}

    def _feeds(self, x: Rows) -> dict[str, FloatArray]:
        """Return what onnxruntime is given of the inputs that are needed."""
        names = [name for name in self._inputs if FEED + name in self._fed]
        return {FEED + name: np.ascontiguousarray(rows_of(x, name), np.float32) for name in names}

    def run(self, x: Rows) -> dict[str, FloatArray]:
        """Return the values of all rows, (rows, *shape) float32 per node."""
        found = {
            name: np.empty((len(x), *shape), np.float32)
            for name, shape in zip(self._names, self._shapes, strict=True)
        }
        for rows, values in self.stream(x):
            for name, value in values.items():
                found[name][rows] = value
        return found

    def stored(
        self, x: Rows, look: Callable[[str, FloatArray], None] = lambda name, value: None
    ) -> dict[str, RowArray]:
        """Return the values of all rows, (rows, *shape) float32 per node: on disk where they are many.

        Args:
            x: (rows, *input shape) float32, channels first.
            look: called with the name and the values of each chunk, to refuse them.
        """
        found = {
            name: row_array((len(x), *shape), np.float32)
            for name, shape in zip(self._names, self._shapes, strict=True)
        }
        for rows, values in self.stream(x):
            for name, value in values.items():
                look(name, value)
                found[name][rows] = value
        return found

    def run_fed(self, values: Mapping[str, FloatArray], x: Rows | None = None) -> dict[str, FloatArray]:
        """Return the values of one batch, computed from the given values of the fed nodes.

        Args:
            values: (batch, *shape) of every fed node; those that nothing needs are left out.
            x: (batch, *input shape) where the network's own input is needed beside them.
        """
        feeds = {
            FED + name: np.ascontiguousarray(value, np.float32)
            for name, value in values.items()
            if FED + name in self._fed
        }
        if x is not None:
            feeds |= self._feeds(x)
        return dict(zip(self._names, map(np.asarray, self._session.run(None, feeds)), strict=True))


def to_onnx(graph: ann.AnnGraph, names: Sequence[str], fed: Sequence[str] = ()) -> onnx.ModelProto:
    """Write the part of a network that computes ``names`` as an ONNX model with a free batch.

    Args:
        graph: the network.
        names: the outputs of the model.
        fed: nodes that become inputs of the model, in place of the network's own input.
    """
    check_known(graph)
    needed = graph.ancestors(names, frozenset(fed))
    writer = _Writer()
    feeds = []
    for node in graph:
        if node.name not in needed:
            continue
        if node.name in fed:
            feed = FED + node.name
            writer.node("Identity", [feed], VALUE + node.name)
        elif isinstance(node, ann.Input):
            feed = FEED + node.name
            writer.add(node)
        else:
            writer.add(node)
            continue
        feeds.append(helper.make_tensor_value_info(feed, TensorProto.FLOAT, ["batch", *node.shape]))
    # Names of ONNX tensors may hold anything; identities keep the requested order and duplicates apart.
    outputs = []
    for name in names:
        writer.node("Identity", [VALUE + name], f"out:{name}")
        outputs.append(
            helper.make_tensor_value_info(f"out:{name}", TensorProto.FLOAT, ["batch", *graph[name].shape])
        )
    model = helper.make_model(
        helper.make_graph(
            writer.nodes,
            "ann",
            feeds,
            outputs,
            writer.constants,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    model.ir_version = 8
    return model


def _weight_bytes(model: onnx.ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def _take_weights(model: onnx.ModelProto) -> dict[str, ort.OrtValue]:
    """Take the float weights out of a model, and return them by name."""
    taken = {}
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        taken[tensor.name] = ort.OrtValue.ortvalue_from_numpy(numpy_helper.to_array(tensor).copy())
        size = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "memory"), ("offset", "0"), ("length", str(size))):
            tensor.external_data.add(key=key, value=value)
    return taken


class _Writer:
    """Collects ONNX nodes and constants."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.weights: dict[int, tuple[FloatArray, str]] = {}

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, values: np.ndarray, name: str) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def weight(self, node: ann.Convolution | ann.Linear) -> str:
        """Write weights once, however many nodes share the array, as the steps of a recurrent layer do."""
        known = self.weights.get(id(node.weight))
        if known is None:
            known = node.weight, self.constant(node.weight, f"weight:{node.name}")
            self.weights[id(node.weight)] = known
        return known[1]

    def vector(self, node: ann.AnnNode, values: FloatArray, label: str) -> str:
        shaped = per_channel(values.astype(np.float32), len(node.shape))
        return self.constant(shaped, f"{label}:{node.name}")

    def add(self, node: ann.AnnNode) -> None:
        read, out = [VALUE + name for name in node.inputs], VALUE + node.name
        match node:
            case ann.Input():
                self.node("Identity", [FEED + node.name], out)
            case ann.Constant():  # of one row: the sum that reads it repeats it
                self.node("Identity", [self.constant(node.values[None], f"constant:{node.name}")], out)
            case ann.Convolution():
                weight = self.weight(node)
                bias = self.constant(node.bias, f"bias:{node.name}")
                self.node(
                    "Conv",
                    [*read, weight, bias],
                    out,
                    group=node.groups,
                    **_window(node.window, dilations=True),
                )
            case ann.Linear():
                weight = self.weight(node)
                bias = self.constant(node.bias, f"bias:{node.name}")
                self.node("Gemm", [*read, weight, bias], out, transB=1)
            case ann.BatchNormalisation():
                vectors = {"scale": node.scale, "shift": node.shift, "mean": node.mean, "var": node.variance}
                names = [self.constant(v.astype(np.float32), f"{k}:{node.name}") for k, v in vectors.items()]
                self.node("BatchNormalization", [*read, *names], out, epsilon=node.epsilon)
            case ann.ChannelAffine():
                scaled = self.node(
                    "Mul", [*read, self.vector(node, node.scale, "scale")], f"scaled:{node.name}"
                )
                self.node("Add", [scaled, self.vector(node, node.shift, "shift")], out)
            case ann.Relu():
                self._relu(node)
            case ann.Levelled():
                self._within_levels(node, self._activation(node, read))
            case ann.AveragePool():
                self.node("AveragePool", read, out, count_include_pad=1, **_window(node.window))
            case ann.MaxPool():
                self.node("MaxPool", read, out, **_window(node.window, dilations=True))
            case ann.Add():
                self.node("Sum", read, out)
            case ann.Concat():
                self.node("Concat", read, out, axis=1)
            case ann.Reshape():
                shape = self.constant(np.array([0, *node.shape], np.int64), f"shape:{node.name}")
                self.node("Reshape", [*read, shape], out)
            case ann.Pad():
                pads = np.array([0, *node.before, 0, *node.after], np.int64)
                self.node("Pad", [*read, self.constant(pads, f"pads:{node.name}")], out)
            case ann.Slice():
                axes = np.arange(1, len(node.shape) + 1)
                named = {"start": node.start, "stop": node.stop, "axes": axes, "step": node.step}
                names = [self.constant(np.array(v, np.int64), f"{k}:{node.name}") for k, v in named.items()]
                self.node("Slice", [*read, *names], out)
            case ann.Gather():
                rows = self.constant(np.array([0, -1], np.int64), f"rows:{node.name}")
                ends = self.constant(np.array([0, 0, 0, 1], np.int64), f"ends:{node.name}")
                flat = self.node("Reshape", [*read, rows], f"flat:{node.name}")
                padded = self.node("Pad", [flat, ends], f"padded:{node.name}")
                index = self.constant(node.index, f"index:{node.name}")
                self.node("Gather", [padded, index], out, axis=1)
            case ann.Softmax():
                self.node("LogSoftmax" if node.logarithm else "Softmax", read, out, axis=1)
            case _:
                raise InternalError(f"no ONNX form is written for {type(node).__name__}")

    def _activation(self, node: ann.Levelled, read: Sequence[str]) -> str:
        """Write what the source network computes, without the levels that were chosen for it."""
        made = f"made:{node.name}"
        match node:
            case ann.Pointwise():
                return write_function(self, node.function, read[0], node.name, len(node.shape))
            case ann.Product():
                return self.node("Mul", read, made)
            case ann.MatrixProduct():
                first, second = read
                if node.transposed:
                    axes = list(range(len(node.shape) + 1))
                    axes[-2:] = axes[:-3:-1]
                    second = self.node("Transpose", [second], f"transposed:{node.name}", perm=axes)
                return self.node("MatMul", [first, second], made)
            case ann.Normalisation():
                return self._normalised(node, read[0], made)
            case ann.InnerSoftmax():
                return self.node("Softmax", read, made, axis=node.axis + 1)
            case ann.Maximum():
                return self.node("ReduceMax", read, made, axes=[axis + 1 for axis in node.axes])
            case _:
                raise InternalError(f"no ONNX form is written for {type(node).__name__}")

    def _normalised(self, node: ann.Normalisation, value: str, made: str) -> str:
        axes = [axis + 1 for axis in node.axes]
        if node.centred:
            mean = self.node("ReduceMean", [value], f"mean:{node.name}", axes=axes)
            value = self.node("Sub", [value, mean], f"centred:{node.name}")
        square = self.node("Mul", [value, value], f"square:{node.name}")
        variance = self.node("ReduceMean", [square], f"variance:{node.name}", axes=axes)
        epsilon = self.constant(np.array(node.epsilon, np.float32), f"epsilon:{node.name}")
        safe = self.node("Add", [variance, epsilon], f"safe:{node.name}")
        return self.node("Div", [value, self.node("Sqrt", [safe], f"deviation:{node.name}")], made)

    def _within_levels(self, node: ann.Levelled, value: str) -> None:
        """Clip to the range of the levels that were chosen, if any."""
        if node.step is not None:
            limits = {"Max": node.step * node.lowest, "Min": node.step * node.highest}
            for kind, limit in limits.items():
                value = self.node(kind, [value, self.vector(node, limit, kind)], f"{kind} of:{node.name}")
        self.node("Identity", [value], VALUE + node.name)

    def _relu(self, node: ann.Relu) -> None:
        value = VALUE + node.inputs[0]
        if node.scale is not None:
            value = self._rounded(node, value)
            if node.threshold is None:
                self.node("Identity", [value], VALUE + node.name)
                return
        if node.shift is not None:
            shift = self.vector(node, node.shift, "shift")
            value = self.node("Add", [value, shift], f"raised:{node.name}")
        value = self.node("Relu", [value], f"rectified:{node.name}")
        if node.floor is not None:
            value = self.node("Max", [value, self.vector(node, node.floor, "floor")], f"floored:{node.name}")
        for label, limit in (("ceiling", node.ceiling), ("threshold", node.threshold)):
            if limit is not None:
                value = self.node("Min", [value, self.vector(node, limit, label)], f"{label}ed:{node.name}")
        if node.shift is not None:
            self.node("Sub", [value, f"shift:{node.name}"], VALUE + node.name)
        else:
            self.node("Identity", [value], VALUE + node.name)

    def _rounded(self, node: ann.Relu, value: str) -> str:
        """Write the rounding to the source network's own levels."""
        scale = self.vector(node, np.asarray(node.scale), "scale")
        value = self.node("Div", [value, scale], f"divided:{node.name}")
        if node.rounding == "half-even":
            value = self.node("Round", [value], f"rounded:{node.name}")
        else:
            if node.rounding == "half-up":
                half = self.constant(np.array(0.5, np.float32), f"half:{node.name}")
                value = self.node("Add", [value, half], f"halved:{node.name}")
            value = self.node("Floor", [value], f"rounded:{node.name}")
        limits = [
            self.constant(np.array(limit, np.float32), f"{label}:{node.name}")
            for label, limit in (("lowest", node.lowest), ("highest", node.highest))
        ]
        value = self.node("Clip", [value, *limits], f"limited:{node.name}")
        return self.node("Mul", [value, scale], f"quantised:{node.name}")


def _window(window: Window, *, dilations: bool = False) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "kernel_shape": list(window.kernel),
        "strides": list(window.strides),
        "pads": list(window.pads),
    }
    return {**attributes, "dilations": list(window.dilations)} if dilations else attributes
