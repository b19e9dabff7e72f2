"""A residual network as a plain chain, for consumers that cannot add the outputs of two nodes.

They run the nodes of a graph in an order in which the second summand may not have been computed yet, and
silently omit it. Values that a later sum needs are therefore passed on by relay neurons: a spike adds
exactly one threshold, so it is sent on in the same step. Populations become wider by the channels passed on,
the convolutions of a sum become one over all its channels, and all spikes of the network are unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from snnc.backends.nir.layers import convolution, pointwise
from snnc.backends.nir.profiles import Profile, Rule
from snnc.backends.nir.program import INPUT, Builder, Conv, Fire, Layer, Program, Step, UnfitError
from snnc.ir.geometry import Window
from snnc.ir.graph import FloatArray, Shape

CURE = "use the profile spikingjelly or snntorch, which take sums, or the target c99 or spiking-onnx"


def chained(program: Program, profile: Profile) -> Program:
    """Return a program whose nodes read one other each.

    Raises:
        UnfitError: a sum that has no such form.
    """
    if all(len(step.inputs) == 1 for step in program.steps) and _is_chain(program):
        return program
    return _Chain(program, profile).run()


def _is_chain(program: Program) -> bool:
    names = [INPUT, *(step.name for step in program.steps)]
    return all(step.inputs == (before,) for step, before in zip(program.steps, names, strict=False))


@dataclass(frozen=True, slots=True)
class _Held:
    """Spikes that the tensor at hand carries.

    Attributes:
        source: the step that fired them.
        channels: how many.
        stride: which of its rows and columns are left.
    """

    source: str
    channels: int
    stride: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True)
class _Segment:
    """What lies between spikes and the next population, or the read-out.

    Attributes:
        branches: each from one source, in the order of computation.
        tail: what follows their sum; the population at the end, if there is one.
    """

    branches: tuple[tuple[str, tuple[Step, ...]], ...]
    tail: tuple[Step, ...]


class _Chain:
    def __init__(self, program: Program, profile: Profile) -> None:
        self.program = program
        self.build = Builder()
        self.shapes: dict[str, Shape] = {INPUT: program.shape}
        self.shapes |= {step.name: step.shape for step in program.steps}
        self.segments = _segments(program)
        self.one = 0.5 if profile.rule is Rule.ZERO_ABOVE else 1.0
        self.held: tuple[_Held, ...] = (_Held(INPUT, program.shape[0]),)
        self.held_on: tuple[_Held, ...] = ()
        self.last = INPUT

    def run(self) -> Program:
        for index, segment in enumerate(self.segments):
            later = {name for other in self.segments[index + 1 :] for name, _ in other.branches}
            keep = tuple(held for held in self.held if held.source in later)
            if len(segment.branches) == 1 and len(self.held) == 1 and not keep:
                self.emit((*segment.branches[0][1], *segment.tail))
            else:
                self.merge(segment, keep)
            fired = segment.tail[-1] if segment.tail else None
            if fired is not None and isinstance(fired.layer, Fire):
                self.held = (_Held(fired.name, fired.shape[0]), *self.held_on)
        return Program(self.program.shape, tuple(self.build.steps), self.program.timesteps)

    def emit(self, steps: Sequence[Step]) -> None:
        """Emit steps as they are, one after the other."""
        self.held_on = ()
        for step in steps:
            self.last = self.build.add(step.name[6:], step.layer, (self.last,), step.shape)

    def merge(self, segment: _Segment, keep: tuple[_Held, ...]) -> None:
        """Emit one convolution over all channels, which also hands on what is kept."""
        kernels = [self.kernel(name, steps) for name, steps in segment.branches]
        name, steps = segment.branches[0]
        shape = steps[-1].shape if steps else self.shapes[name]
        strides = {kernel.strides for _, kernel in kernels}
        if len(strides) > 1 or (keep and len(shape) != 3):
            raise UnfitError(f"{segment.tail[-1].name[6:]}: its summands have different strides", CURE)
        (stride,) = strides
        down, across = (max(kernel.padding[axis] for _, kernel in kernels) for axis in (0, 1))
        size = [
            max(pad - kernel.padding[axis] + kernel.weight.shape[2 + axis] for _, kernel in kernels)
            for axis, pad in enumerate((down, across))
        ]
        outputs = shape[0]
        wide = outputs + sum(held.channels for held in keep)
        weight = np.zeros((wide, sum(held.channels for held in self.held), *size), np.float32)
        bias = np.zeros(wide, np.float32)
        for name, kernel in kernels:
            top, left = down - kernel.padding[0], across - kernel.padding[1]
            rows, columns = kernel.weight.shape[2:]
            weight[:outputs, self.span(name), top : top + rows, left : left + columns] += kernel.weight
            bias[:outputs] += kernel.bias
        for held, out in zip(keep, self.places(outputs, keep), strict=True):
            weight[out, self.span(held.source), down, across] = np.eye(held.channels)
        window = Window((size[0], size[1]), stride, (down, across, down, across))
        height, width = self.shapes_at_hand()
        if window.output_size(height, width) != shape[1:]:
            raise UnfitError(f"{segment.tail[-1].name[6:]}: its summands do not cover the same places", CURE)
        self.held_on = tuple(self.thinned(held, stride, segment) for held in keep)
        layer = convolution(weight, bias, window)
        self.last = self.build.add(f"{segment.tail[0].name[6:]}_sum", layer, (self.last,), (wide, *shape[1:]))
        for step in segment.tail:
            extra = wide - outputs
            grown = (step.shape[0] + extra, *step.shape[1:])
            self.last = self.build.add(step.name[6:], self.widened(step.layer, extra), (self.last,), grown)

    def kernel(self, name: str, steps: Sequence[Step]) -> tuple[str, Conv]:
        """Return a branch as one convolution of the spikes at hand."""
        (held,) = (held for held in self.held if held.source == name)
        layers = [step.layer for step in steps]
        channels = held.channels
        whole = Conv(pointwise(np.eye(channels, dtype=np.float32)), np.zeros(channels, np.float32))
        for step, layer in zip(steps, layers, strict=True):
            if not isinstance(layer, Conv) or layer.dilations != (1, 1):
                raise UnfitError(f"{step.name[6:]}: this summand is no plain convolution", CURE)
            whole = _composed(whole, layer, step.name[6:])
        if held.stride != (1, 1):
            even = all(a % b == 0 for a, b in zip(whole.strides, held.stride, strict=True))
            if whole.weight.shape[2:] != (1, 1) or whole.padding != (0, 0) or not even:
                raise UnfitError(f"{name[6:]}: its spikes are needed again at another resolution", CURE)
            down, across = (a // b for a, b in zip(whole.strides, held.stride, strict=True))
            whole = replace(whole, strides=(down, across))
        return name, whole

    def thinned(self, held: _Held, stride: tuple[int, int], segment: _Segment) -> _Held:
        """Return what is left of spikes that were handed on by a convolution with a stride."""
        if held.source == INPUT:
            raise UnfitError(
                f"{segment.tail[-1].name[6:]}: the input itself cannot be handed on as spikes", CURE
            )
        return replace(held, stride=(held.stride[0] * stride[0], held.stride[1] * stride[1]))

    def shapes_at_hand(self) -> tuple[int, int]:
        """Return height and width of the tensor at hand."""
        step = self.build.steps[-1] if self.build.steps else None
        shape = self.program.shape if step is None else step.shape
        return shape[1], shape[2]

    def span(self, source: str) -> slice:
        """Return where the spikes of a source lie among the channels at hand."""
        start = 0
        for held in self.held:
            if held.source == source:
                return slice(start, start + held.channels)
            start += held.channels
        raise KeyError(source)

    def places(self, start: int, keep: tuple[_Held, ...]) -> list[slice]:
        """Return where what is handed on lies among the channels to come."""
        found = []
        for held in keep:
            found.append(slice(start, start + held.channels))
            start += held.channels
        return found

    def widened(self, layer: Layer, extra: int) -> Layer:
        """Return a layer of the tail that lets further channels pass."""
        if extra == 0:
            return layer
        if isinstance(layer, Fire):
            # The spikes handed on arrive with the weight 1.
            ones = np.full(extra, self.one, np.float32)
            return Fire(np.concatenate([layer.threshold, ones]), layer.origin)
        if isinstance(layer, Conv) and layer.weight.shape[2:] == (1, 1):
            return replace(
                layer,
                weight=_beside(layer.weight, pointwise(np.eye(extra, dtype=np.float32))),
                bias=np.concatenate([layer.bias, np.zeros(extra, np.float32)]),
            )
        raise UnfitError("spikes can be handed on by convolutions only", CURE)


def _beside(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return two 1x1 kernels as one, each for its own channels."""
    (a, b), (c, d) = first.shape[:2], second.shape[:2]
    whole = np.zeros((a + c, b + d, 1, 1), np.float32)
    whole[:a, :b], whole[a:, b:] = first, second
    return whole


def _composed(first: Conv, second: Conv, name: str) -> Conv:
    """Return two convolutions as one; at least one of them is pointwise."""
    pointlike = second.weight.shape[2:] == (1, 1) and second.padding == (0, 0)
    start = first.weight.shape[2:] == (1, 1) and first.padding == (0, 0) and first.strides == (1, 1)
    if pointlike:
        matrix = second.weight[:, :, 0, 0]
        weight = np.einsum("om,mikl->oikl", matrix, first.weight)
        down, across = (a * b for a, b in zip(first.strides, second.strides, strict=True))
        return Conv(weight, matrix @ first.bias + second.bias, (down, across), first.padding)
    if start and not first.bias.any():
        weight = np.einsum("omkl,mi->oikl", second.weight, first.weight[:, :, 0, 0])
        return Conv(weight, second.bias, second.strides, second.padding)
    raise UnfitError(f"{name}: this summand is a chain of convolutions, which make no single one", CURE)


def _segments(program: Program) -> tuple[_Segment, ...]:
    """Cut a program at its populations."""
    by_name = {step.name: step for step in program.steps}
    spikes = {INPUT, *(step.name for step in program.steps if isinstance(step.layer, Fire))}
    ends = [step for step in program.steps if isinstance(step.layer, Fire)]
    if program.steps[-1] not in ends:
        ends.append(program.steps[-1])
    return tuple(_segment(end, by_name, spikes) for end in ends)


def _segment(end: Step, by_name: dict[str, Step], spikes: set[str]) -> _Segment:
    """Walk back from a population to the spikes that drive it."""
    tail = [end]
    while len(tail[0].inputs) == 1 and tail[0].inputs[0] not in spikes:
        tail.insert(0, by_name[tail[0].inputs[0]])
    if len(tail[0].inputs) == 1:
        # No sum: the first layer is the branch, and what follows is the tail.
        head = tail.pop(0) if len(tail) > 1 else None
        if head is None:
            return _Segment(((tail[0].inputs[0], ()),), tuple(tail))
        return _Segment(((head.inputs[0], (head,)),), tuple(tail))
    branches = []
    for name in tail[0].inputs:
        steps: list[Step] = []
        at = name
        while at not in spikes:
            if len(by_name[at].inputs) != 1:
                raise UnfitError(f"{at[6:]}: a sum within a sum", CURE)
            steps.insert(0, by_name[at])
            at = by_name[at].inputs[0]
        branches.append((at, tuple(steps)))
    return _Segment(tuple(branches), tuple(tail))
