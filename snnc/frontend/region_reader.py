"""Reading regions: several nodes that together are one activation, one staircase or one normalisation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
import onnx

from snnc.diagnostics import APPROXIMATED, Diagnostic
from snnc.frontend.call import Call
from snnc.frontend.choosing import READERS as CHOOSERS
from snnc.frontend.elementwise import affine
from snnc.frontend.environment import Environment
from snnc.frontend.masks import is_mask
from snnc.frontend.norm_chains import find_chains, without_parts_of
from snnc.frontend.norm_chains import recognise as recognise_chain
from snnc.frontend.norms import normalised
from snnc.frontend.operators import is_miscounted
from snnc.frontend.pointwise import Written, emit_function, find_functions, wired, written
from snnc.frontend.precision import precision_of
from snnc.frontend.quantised.staircases import emit, find_regions, recognise
from snnc.frontend.refusals import RefusalError
from snnc.frontend.regions import Region
from snnc.frontend.simplify import NOT_DETERMINED, label, reads
from snnc.frontend.tensors import Constant
from snnc.frontend.views import View
from snnc.ir import ann

Recogniser = Callable[[Region, Sequence[onnx.NodeProto], Mapping[str, Constant], View], View | None]
"""From a region, its nodes, its constants and what it reads to what it gives; ``None`` for another region."""


class RegionReader:
    """Reads the regions of some nodes."""

    def __init__(
        self,
        environment: Environment,
        nodes: Sequence[onnx.NodeProto],
        read: Callable[[onnx.NodeProto], bool],
    ) -> None:
        """Find what may be a region.

        Args:
            environment: the state of the walk.
            nodes: in topological order, those that compute constants first.
            read: reads one node by itself; whether the walk may go on.
        """
        self._env, self._nodes, self._read = environment, nodes, read
        known = {name for name, value in environment.values.items() if isinstance(value, np.ndarray)}
        constant = known | computed_of(nodes, known)
        self._staircases = find_regions(nodes, constant)
        # Sizes of tensors are constants, too, once these are read.
        self._sized = constant | computed_of(nodes, constant | _sizes(nodes))
        self._chains = find_chains(nodes, self._sized)
        self._wiring = wired(nodes, constant)
        self._functions = without_parts_of(self._chains, find_functions(self._wiring))
        self._readers = _numbers_by_tensor(nodes)
        self._plain: set[int] = set()

    def read_from(self, number: int) -> set[int]:
        """Read the region that begins with a node, if there is one; return the numbers of its nodes.

        Raises:
            RefusalError: without a diagnostic, where what reads the input has told its layout.
        """
        done = self._read_region(self._staircases.get(number, []), self._staircase)
        chains = self._chains.get(number, [])
        if chains and number not in done:
            done |= self._read_sizes(number, chains)
            done |= self._read_region(chains, self._normalisation)
        if number not in done | self._plain:
            done |= self._read_function(number)
        return done

    def _read_function(self, number: int) -> set[int]:
        """Read the largest region from a node on that is a function of one number; return what is done.

        What is read elsewhere of the values within is a function of its own, or is read node by node.
        """
        regions = self._functions.get(number, ())
        for region in regions:
            found = self._written(region)
            if found is None:
                continue
            if not found.is_curved:
                behind = self._env.readers.get(region.end, ())
                if behind and all(node is not None and node.op_type in CHOOSERS for node in behind):
                    continue  # part of a choice that no program says
                if self._begins_rectified(region, found, regions):
                    return set()
            if self._emit(region, found):
                self._read_outside(region)
                return set(region.places)
        return set()

    def _begins_rectified(self, region: Region, found: Written, regions: Iterable[Region]) -> bool:
        """Whether a rectifier begins a region: what limits and comparisons say of it is left to these."""
        roots = self._wiring.roots[region.end]
        for head in regions:
            if region.root == head.root and head.end in roots:
                known = found if head is region else self._written(head)
                if known is not None and known.is_rectifier:
                    self._plain.update(head.places)
                    return True
        return False

    def _read_outside(self, region: Region) -> None:
        """Read what is read elsewhere of the values within a region."""
        done = set(region.places)
        for place in region.places[:-1]:
            name = self._nodes[place].output[0]
            outside = None in self._env.readers.get(name, ())
            outside = outside or not done.issuperset(self._readers.get(name, ()))
            if not outside or name in self._env.values:
                continue
            smaller = [
                each
                for part in region.places
                for each in self._functions.get(part, ())
                if (each.root, each.end) == (region.root, name)
            ]
            if any((known := self._written(each)) and self._emit(each, known) for each in smaller):
                continue
            for inner in region.places:
                if self._nodes[inner].output[0] not in self._env.values and inner <= place:
                    self._read(self._nodes[inner])

    def _written(self, region: Region) -> Written | None:
        """Return the function that a region is; ``None`` where it is none, or cannot be read as one."""
        view = self._env.values.get(region.root)
        if not isinstance(view, View) or region.root in self._env.codes or region.root in self._env.whole:
            return None
        inside = [self._nodes[place] for place in region.places]
        if isinstance(self._env.builder.nodes[view.node], ann.Softmax) and len(inside) == 1:
            return None  # its logarithm, if any, is left out with it
        if any(is_miscounted(node, self._env.opset) or is_mask(self._env, node) for node in inside):
            return None
        try:
            return written(region, inside, self._env.constants(inside), view, self._env.opset)
        except RefusalError as refusal:
            if refusal.diagnostic is None:
                raise
            return None

    def _emit(self, region: Region, found: Written) -> bool:
        """Add the activation that a region is; return whether its constants fit the tensor."""
        view = self._env.values.get(region.root)
        if not isinstance(view, View):
            return False
        inside = [self._nodes[place] for place in region.places]
        try:
            self._env.values[region.end] = emit_function(self._env.builder, view, found, inside[-1])
        except RefusalError as refusal:
            if refusal.diagnostic is None:
                raise
            return False
        for node in inside:
            if kind := precision_of(node, (self._env.values.get(name) for name in node.input)):
                self._env.imprecise.append((kind, label(node)))
        return True

    def _read_sizes(self, number: int, regions: Sequence[Region]) -> set[int]:
        """Read what regions need of sizes before its turn, as far as these are known; return those nodes."""
        nodes, values = self._nodes, self._env.values
        inside = {place for region in regions for place in region.places}
        wanted = {name for place in inside for name in nodes[place].input} & self._sized
        chosen = []
        for place in range(len(nodes) - 1, number, -1):
            if wanted.intersection(nodes[place].output) and place not in inside:
                chosen.append(place)
                wanted |= self._sized.intersection(nodes[place].input)
        done = set()
        for place in reversed(chosen):
            node = nodes[place]
            if any(name in values for name in node.output):
                continue
            if all(name in values for name in node.input if name):
                if not self._read(node):
                    raise RefusalError(None)
                done.add(place)
        return done

    def _read_region(self, regions: Sequence[Region], recognised: Recogniser) -> set[int]:
        """Read the first of some regions that is what is looked for; return the nodes that are done."""
        values = self._env.values
        for region in regions:
            view = values.get(region.root)
            inside = [self._nodes[place] for place in region.places]
            if any(is_miscounted(node, self._env.opset) for node in inside):
                continue
            if not isinstance(view, View) or region.root in self._env.codes:
                continue
            if any(name in values for node in inside for name in node.output if name):
                continue  # a part of it is read as another region
            try:
                found = recognised(region, inside, self._env.constants(inside), view)
            except RefusalError as refusal:
                if refusal.diagnostic is None:
                    raise
                continue
            if found is None:
                continue
            values[region.end] = found
            return self._not_needed(region)
        return set()

    def _not_needed(self, region: Region) -> set[int]:
        """Return the nodes of a region but for those that others read, which are read once more."""
        inside = [self._nodes[place] for place in region.places]
        made = {name for node in inside for name in node.output} - {region.end}
        read = {name for node in self._nodes if node not in inside for name in reads(node)}
        needed = (read | set(self._env.signature.outputs)) & made
        done = set(region.places)
        for place in reversed(region.places):
            if needed.intersection(self._nodes[place].output):
                done.remove(place)
                needed.update(self._nodes[place].input)
        return done

    def _staircase(
        self,
        region: Region,
        inside: Sequence[onnx.NodeProto],
        constants: Mapping[str, Constant],
        view: View,
    ) -> View | None:
        """Read a region that rounds or clips."""
        found = recognise(region, inside, constants, view.shape, self._env.opset)
        return None if found is None else emit(self._env.builder, view, found, inside[-1])

    def _normalisation(
        self,
        region: Region,
        inside: Sequence[onnx.NodeProto],
        constants: Mapping[str, Constant],
        view: View,
    ) -> View | None:
        """Read a region that normalises."""
        chain = recognise_chain(region, inside, constants, view.shape, self._env.opset)
        if chain is None:
            return None
        last = inside[-1]
        call = Call(last, self._env.opset, (view,), self._env.builder, self._env.signature.batch, ((),))
        made = normalised(call, view, chain.axes, chain.epsilon, centred=chain.centred)
        if not chain.exact:
            message = "the epsilon of a normalisation does not stand beside the variance"
            cure = "compare the converted network with the source by `snnc eval`"
            self._env.approximated.append(Diagnostic(APPROXIMATED, message, label(last), cure))
        return affine(call, made, chain.scale, chain.shift)


def computed_of(nodes: Iterable[onnx.NodeProto], known: Collection[str]) -> set[str]:
    """Return what nodes compute of constants alone."""
    found: set[str] = set()
    for node in nodes:
        if all(name in known or name in found for name in reads(node)) and node.op_type not in NOT_DETERMINED:
            found.update(name for name in node.output if name)
    return found


def _sizes(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Return the names of the tensors that are sizes of others."""
    return {name for node in nodes if node.op_type in ("Shape", "Size") for name in node.output}


def _numbers_by_tensor(nodes: Iterable[onnx.NodeProto]) -> dict[str, set[int]]:
    """Return the numbers of the nodes that read each tensor."""
    found: dict[str, set[int]] = {}
    for number, node in enumerate(nodes):
        for name in reads(node):
            found.setdefault(name, set()).add(number)
    return found
