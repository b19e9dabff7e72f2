"""Learning on the device: running sums of the counts at a cut, and prototypes of them, in integers alone.

``snnc_learn()`` adds what the last run left at the cut to the sums of a class, which are those of
:mod:`snnc.numerics.count_sums`; ``snnc_learn_prototypes()`` makes int8 weights of them, those of
:mod:`snnc.numerics.prototypes`. A linear head takes the Gram matrix as well, which is solved off the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from string import Template

import numpy as np

from snnc import __version__
from snnc.artefact import Artefact
from snnc.artefact.adaptations import Adaptation
from snnc.backends.c99.learning_templates import (
    LEARN_HEADER_TEXT,
    LEARN_PROGRAM_TEXT,
    LEARN_SOURCE_TEXT,
)
from snnc.backends.c99.ports import c_index
from snnc.backends.c99.program import Extent
from snnc.backends.c99.selftest import OFFSET, PRIME, fnv, golden_inputs
from snnc.backends.c99.source import HEADER, array, comment, sides
from snnc.backends.c99.widths import Width, longest
from snnc.errors import InputError, UsageError
from snnc.ir.bounds import count_bounds
from snnc.ir.cut import Cut, find_cut
from snnc.ir.graph import IntArray
from snnc.ir.snn import IntegrateFire, SnnGraph, SumPool
from snnc.numerics.count_sums import CountSums, check_size, summed
from snnc.numerics.prototypes import BITS, FRACTION, LIMIT, MOST_FEATURES, prototypes
from snnc.simulation.arrays import windows
from snnc.simulation.latents import latent_of
from snnc.simulation.protocol import Golden
from snnc.simulation.reference import propagate

LEARN_HEADER, LEARN_SOURCE, LEARN_PROGRAM = "snnc_learn.h", "snnc_learn.c", "selftest_learn.c"
MORE = 4
"""Classes that can be learned beside those of the network, by default."""

GOLDEN_CLASSES = 3
MOST_PLACES = 2**16
"""Entries of the table that leads from counts of neurons to the counts at the cut."""


@dataclass(frozen=True, slots=True, eq=False)
class Learner:
    """What the learning of a network needs.

    Attributes:
        cut: behind which is learned.
        population: whose counts are read.
        places: (F, k), positions of those that are summed to each count at the cut, -1 for none.
        bound: the largest magnitude of a count at the cut, in the longest run that C allows.
        known: sums that the artefact has learned from already; ``None`` for none.
        classes: outputs of the network.
    """

    cut: Cut
    population: str
    places: IntArray
    bound: int
    known: CountSums | None
    classes: int

    @property
    def features(self) -> int:
        """Counts at the cut."""
        return len(self.places)

    @property
    def capacity(self) -> int:
        """Classes by default."""
        return self.classes + MORE

    @property
    def most_rows(self) -> int:
        """Rows of a class until its sums could leave 32 bits."""
        return min((2**31 - 1) // max(self.bound, 1), 2**31 - 1)

    @property
    def least_classes(self) -> int:
        """Classes that what was learned already needs."""
        return 1 if self.known is None else self.known.classes[-1] + 1

    @property
    def most_classes(self) -> int:
        """Classes until the products of as many full ones could leave 63 bits."""
        return min((2**63 - 1) // (self.most_rows * max(self.bound, 1) ** 2), 2**31 - 1)

    def memory(self) -> tuple[int, int]:
        """Return the bytes of a learner of the default size, without and with a Gram matrix."""
        rows = self.capacity * (5 * self.features + 4)
        plain = -(-rows // 4) * 4
        return plain, -(-plain // 8) * 8 + 8 * (self.features * (self.features + 1) // 2)


def learner(artefact: Artefact) -> Learner | None:
    """Return what learning needs; ``None`` where a network cannot learn on a device.

    That is where it has no classes or no linear classifier, where anything but sums and moves lies between
    one population and the classifier, or where the counts are too many or too large for sums of products.
    """
    graph, adaptation = artefact.graph, None
    try:
        if artefact.metadata.adaptation is not None:
            adaptation = Adaptation.from_dict(artefact.metadata.adaptation)
        cut = find_cut(graph, None if adaptation is None else adaptation.cut)
    except (InputError, UsageError):
        return None
    traced = _traced(graph, cut.latent)
    if traced is None or len(traced[1]) > MOST_FEATURES or traced[1].size > MOST_PLACES:
        return None
    known = adaptation.sums() if adaptation is not None and adaptation.head.summed else None
    bound = count_bounds(graph, longest(graph))[cut.latent]
    found = Learner(cut, *traced, bound, known, graph.readout.shape[0])
    try:
        check_size(found.features, found.most_rows * found.capacity, bound, gram=True)
    except UsageError:
        return None
    if known is not None and max(known.rows.values()) > found.most_rows:
        return None
    return found


def _traced(graph: SnnGraph, name: str) -> tuple[str, IntArray] | None:
    """Return the population that a value's counts are sums of, and which, (F, k)."""
    chain = []
    node = graph[name]
    while not isinstance(node, IntegrateFire):
        if not (node.moves or isinstance(node, SumPool)) or len(node.inputs) != 1:
            return None
        chain.append(node)
        node = graph[node.inputs[0]]
    extent = Extent.of(node.shape)
    first = np.arange(prod(node.shape)).reshape(extent.pixels, extent.channels).T.reshape(node.shape)
    places = first[None].astype(np.int64) + 1  # of the values of C, channels last; 0 for none
    for each in reversed(chain):
        if isinstance(each, SumPool):
            seen = windows(places, each.window, 0)  # (k, channels, height, width, *kernel)
            seen = np.moveaxis(seen, (4, 5), (1, 2))
            places = seen.reshape(-1, *seen.shape[3:]).astype(np.int64)
        else:
            places = propagate(each, [places[None]])[0].astype(np.int64)
    return node.name, places.reshape(len(places), -1).T - 1


def texts(found: Learner, graph: SnnGraph, golden: Golden) -> dict[str, str]:
    """Return the C of learning, by the names of its files."""
    names = {
        "name": comment(graph.name),
        "version": __version__,
        "network": HEADER,
        "header": LEARN_HEADER,
        "features": found.features,
        "places": found.places.shape[1],
        "capacity": found.capacity,
        "rows": found.most_rows,
        "least_classes": found.least_classes,
        "most_classes": found.most_classes,
        "ram": found.memory()[0],
        "ram_gram": found.memory()[1],
        "counts": f"state->n_{c_index(graph)[found.population]}",
        "bits": BITS,
        "fraction": FRACTION,
        "limit": LIMIT,
    }
    return {
        LEARN_HEADER: Template(LEARN_HEADER_TEXT).substitute(names),
        LEARN_SOURCE: Template(LEARN_SOURCE_TEXT).substitute(
            names, tables=_tables(found), begin=_begin(found)
        ),
        LEARN_PROGRAM: _program(found, graph, golden),
    }


def _tables(found: Learner) -> str:
    small = found.places.max() < 2**15
    note = f"/* Which counts are summed at the cut {comment(found.cut.name)}; -1 for none. */\n"
    parts = [note + array("places", Width.I16 if small else Width.I32, found.places)]
    known = found.known
    if known is not None:
        sums = np.array([known.sums[c] for c in known.classes])
        rows = np.array([[c, known.rows[c]] for c in known.classes])
        parts.append("/* What was learned before: class and rows, and the sums over these. */")
        parts.append(array("known_rows", Width.I32, rows) + array("known_sums", Width.I32, sums))
        if known.gram is not None:
            triangle = known.gram[np.triu_indices(found.features)].tolist()
            listed = ", ".join(f"INT64_C({value})" for value in triangle)
            table = f"static const int64_t known_gram[{len(triangle)}] = {{{listed}}};"
            parts.append(f"#ifdef SNNC_LEARN_GRAM\n{table}\n#endif")
    return "\n".join(parts)


def _begin(found: Learner) -> str:
    known = found.known
    if known is None:
        return ""
    gram = ""
    if known.gram is not None:
        gram = """
#ifdef SNNC_LEARN_GRAM
    for (int32_t i = 0; i < SNNC_LEARN_PRODUCTS; i++) {
        learner->gram[i] = known_gram[i];
    }
#endif"""
    return f"""
    for (int32_t k = 0; k < {len(known.classes)}; k++) {{
        const int32_t label = known_rows[2 * k];
        if (label < SNNC_LEARN_CLASSES) {{
            learner->rows[label] = known_rows[2 * k + 1];
            for (int32_t i = 0; i < SNNC_LEARN_FEATURES; i++) {{
                learner->sums[label][i] = known_sums[k * SNNC_LEARN_FEATURES + i];
            }}
        }}
    }}{gram}"""


def _program(found: Learner, graph: SnnGraph, golden: Golden) -> str:
    """Return the program that learns the golden inputs, and compares sums, weights and answers."""
    counts = latent_of(graph, found.cut, golden.counts, golden.q)
    labels = np.arange(len(counts)) % min(GOLDEN_CLASSES, found.classes)
    sums = summed(counts, labels, found.bound, gram=True)
    if sums.gram is None:
        raise UsageError("sums without products")
    gram = sums.gram if found.known is None or found.known.gram is None else sums.gram + found.known.gram
    whole = sums if found.known is None else found.known + sums
    try:
        weight = prototypes(whole)
    except UsageError:  # rows that are silent: the device refuses them, too
        weight, answers = np.zeros((0, found.features), np.int8), np.zeros(0, np.int64)
    else:
        answers = np.array(whole.classes)[(counts @ weight.astype(np.int64).T).argmax(axis=1)]
    total = np.array([whole.sums[c] for c in whole.classes])
    low = gram[np.triu_indices(found.features)].astype(np.uint64) & np.uint64(0xFFFFFFFF)
    high = gram[np.triu_indices(found.features)] >> 32
    halves = np.stack([low.astype(np.uint32).view(np.int32).astype(np.int64), high], axis=1)
    return Template(LEARN_PROGRAM_TEXT).substitute(
        name=comment(graph.name),
        header=LEARN_HEADER,
        inputs=golden_inputs(graph),
        offset=OFFSET,
        prime=PRIME,
        classes=min(GOLDEN_CLASSES, found.classes),
        expected=len(weight),
        sums=fnv(total),
        gram=fnv(halves),
        weights=fnv(weight.astype(np.int32)),
        answers=fnv(answers),
    )


def guide(found: Learner, graph: SnnGraph, arguments: Sequence[str]) -> str:
    """Return what an integrator has to know of learning.

    Args:
        found: what is learned.
        graph: the network.
        arguments: by which a compiler builds the program that compares it.
    """
    plain, gram = found.memory()
    given = ", ".join(port.argument for port in sides(graph)[0])
    before = "Nothing was learned before"
    if found.known is not None:
        before = (
            f"It begins with the sums of {len(found.known.classes)} classes that the artefact has learned"
        )
    return f"""
## Learning on the device

`{LEARN_SOURCE}` learns classes behind `{found.cut.name}`, from {found.features:,} counts a row, in integers
and without allocation: the caller keeps a `snnc_learner`.

```c
#include "{LEARN_HEADER}"

SNNC_STATE_SECTION static snnc_learner learner;

snnc_learn_begin(&learner);
snnc_infer(&state, {given}, SNNC_TIMESTEPS, y);
snnc_learn(&learner, &state, label); /* as often as there are rows; 0: out of range, or too many rows */
snnc_learn_prototypes(&learner);     /* int8 weights from the sums; 0: a class has silent rows alone */
snnc_infer(&state, {given}, SNNC_TIMESTEPS, y);
int32_t answer = snnc_learned_class(&learner, &state);
```

`sizeof(snnc_learner)` is {plain:,} bytes for {found.capacity} classes, {5 * found.features + 4:,} a class,
checked when compiled; `-DSNNC_LEARN_CLASSES=N` makes it another number. With `-DSNNC_LEARN_GRAM` it holds
the products of a linear head as well, and takes {gram:,} bytes. A class takes up to {found.most_rows:,}
rows. {before}.
Sums, products and weights are those of `snnc adapt`, bit for bit: `cc -std=c99 -O2 -DSNNC_LEARN_GRAM
{" ".join(arguments)}` makes the program that compares them on the golden inputs.
"""
