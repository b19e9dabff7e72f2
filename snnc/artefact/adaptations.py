"""What an artefact has learned after its conversion: a record of each edit, from which it can be taken back.

The record holds what was behind the cut before, exactly, and of every edit the integer sums over its rows,
or, where layers were learned by gradients, what they were before it. Any subset of edits can thus be
computed anew; see :mod:`snnc.adaptation`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np

from snnc.errors import InputError, UsageError
from snnc.ir.graph import NumberArray
from snnc.ir.parser import parse_graph
from snnc.ir.snn import SnnGraph, SnnNode
from snnc.ir.text import arrays_of, print_exact
from snnc.numerics.count_sums import CountSums, total

SCHEMA = 1
ID_DIGITS = 8
SAFE = ("|b1", "|i1", "<i2", "<i4", "<i8", "<f4")
"""Types of stored arrays."""

Json = Mapping[str, Any]


class Head(Enum):
    """What is learned behind the cut."""

    LINEAR = "linear"
    PROTOTYPE = "prototype"
    GRADIENT = "gradient"

    @property
    def summed(self) -> bool:
        """Whether it follows from sums over rows alone."""
        return self is not Head.GRADIENT


@dataclass(frozen=True, eq=False)  # no slots: what is read of the text is kept
class Tail:
    """The network behind a cut, exactly.

    Attributes:
        text: the exact form of its nodes and of the settings of the whole network.
        arrays: those that the text names.
    """

    text: str
    arrays: Mapping[str, NumberArray]

    @classmethod
    def of(cls, graph: SnnGraph, names: tuple[str, ...]) -> Tail:
        """Keep some nodes of a network."""
        part = replace(graph, nodes=tuple(graph[name] for name in names), density={})
        return cls(print_exact(part), arrays_of(part))

    def put(self, graph: SnnGraph, latent: str) -> SnnGraph:
        """Return the network with this behind the cut in place of what is there."""
        part = self._part
        before = graph.ancestors([latent])
        kept = tuple(node for node in graph if node.name in before)
        return replace(part, nodes=(*kept, *part.nodes), density=graph.density)

    @property
    def nodes(self) -> tuple[SnnNode, ...]:
        """The nodes."""
        return self._part.nodes

    @cached_property
    def _part(self) -> SnnGraph:
        part = parse_graph(self.text, self.arrays)
        if not isinstance(part, SnnGraph):
            raise InputError("the record of the adaptation holds no spiking network")
        return part

    def as_dict(self) -> Json:
        """Return the JSON form."""
        return {"text": self.text, "arrays": {name: coded(values) for name, values in self.arrays.items()}}

    @classmethod
    def from_dict(cls, found: Json) -> Tail:
        """Read the JSON form."""
        return cls(str(found["text"]), {str(name): decoded(each) for name, each in found["arrays"].items()})


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """One adaptation.

    Attributes:
        classes: that it has rows of, ascending.
        rows: how many.
        row_hashes: of the rows as the network takes them, see :func:`snnc.data.leakage.row_hashes`.
        names: of the classes that it brings, as far as they were told.
        sums: over its rows; ``None`` for gradients.
        replayed: over rows of a replay buffer, of the classes of the conversion; ``None`` for none.
        before: what was behind the cut before; of gradients alone.
        replay_rows: rows of a replay buffer that were learned with.
    """

    classes: tuple[int, ...]
    rows: int
    row_hashes: str
    names: Mapping[int, str]
    sums: CountSums | None = None
    replayed: CountSums | None = None
    before: Tail | None = None
    replay_rows: int = 0

    @property
    def id(self) -> str:
        """What it is called: a hash of its content."""
        text = json.dumps(self._content(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]

    def as_dict(self) -> Json:
        """Return the JSON form."""
        return {"id": self.id, **self._content()}

    def _content(self) -> dict[str, Any]:
        return {
            "classes": list(self.classes),
            "rows": self.rows,
            "row_hashes": self.row_hashes,
            "names": {str(label): name for label, name in sorted(self.names.items())},
            "sums": _sums(self.sums),
            "replayed": _sums(self.replayed),
            "before": None if self.before is None else self.before.as_dict(),
            "replay_rows": self.replay_rows,
        }

    @classmethod
    def from_dict(cls, found: Json) -> Edit:
        """Read the JSON form.

        Raises:
            ValueError: the content is not what its hash says.
        """
        edit = cls(
            classes=tuple(int(label) for label in found["classes"]),
            rows=int(found["rows"]),
            row_hashes=str(found["row_hashes"]),
            names={int(label): str(name) for label, name in found["names"].items()},
            sums=_read_sums(found["sums"]),
            replayed=_read_sums(found["replayed"]),
            before=None if found["before"] is None else Tail.from_dict(found["before"]),
            replay_rows=int(found["replay_rows"]),
        )
        if edit.id != found["id"]:
            raise ValueError(f"the record of the edit {found['id']!r} is not what its hash says")
        return edit


@dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """All that an artefact has learned, and what it was before.

    Attributes:
        cut: the layer behind which it learned.
        latent: the node whose counts it learned from.
        features: how many these are.
        head: what it learned.
        ridge: of a linear head.
        routed: whether each edit is a head of its own, and rows go to the most similar one.
        base: what was behind the cut.
        outputs: the artefact's record of its outputs before.
        classes: names of the classes before.
        content_sha256: of the artefact before.
        edits: in their order.
    """

    cut: str
    latent: str
    features: int
    head: Head
    ridge: float
    routed: bool
    base: Tail
    outputs: tuple[Json, ...]
    classes: tuple[str, ...]
    content_sha256: str
    edits: tuple[Edit, ...] = ()

    @property
    def base_classes(self) -> int:
        """How many classes the converted network has."""
        return self.base.nodes[-1].shape[0]

    def sums(self, edits: Sequence[Edit] | None = None) -> CountSums:
        """Return the sums over all rows that count for the head.

        Rows from a replay buffer stand for the classes of the conversion, as long as no edit brought rows of
        these.

        Args:
            edits: of which; all by default.
        """
        chosen = self.edits if edits is None else edits
        found = total(edit.sums for edit in chosen if edit.sums is not None)
        if not any(label < self.base_classes for label in found.classes):
            replayed = next((edit.replayed for edit in chosen if edit.replayed is not None), None)
            found = found if replayed is None else found + replayed
        return found

    def added_by(self, edit: Edit) -> int:
        """Return how many weights the classes have that an edit brought first, biases included."""
        earlier = self.edits[: self.edits.index(edit)] if edit in self.edits else self.edits
        known = {label for each in earlier for label in each.classes}
        new = [label for label in edit.classes if label >= self.base_classes and label not in known]
        return len(new) * (self.features + 1)

    def edit(self, name: str) -> Edit:
        """Return an edit by its ID, or the beginning of it.

        Raises:
            UsageError: there is none, or there are several.
        """
        found = [edit for edit in self.edits if edit.id.startswith(name)] if name else []
        if len(found) != 1:
            listed = ", ".join(edit.id for edit in self.edits)
            raise UsageError(f"{len(found) or 'no'} edits are called {name!r}: give one of {listed}")
        return found[0]

    def as_dict(self) -> Json:
        """Return the JSON form."""
        return {
            "schema": SCHEMA,
            "cut": self.cut,
            "latent": self.latent,
            "features": self.features,
            "head": self.head.value,
            "ridge": self.ridge,
            "routed": self.routed,
            "base": self.base.as_dict(),
            "outputs": [dict(each) for each in self.outputs],
            "classes": list(self.classes),
            "content_sha256": self.content_sha256,
            "edits": [{**edit.as_dict(), "weights_added": self.added_by(edit)} for edit in self.edits],
        }

    @classmethod
    def from_dict(cls, found: Json) -> Adaptation:
        """Read the JSON form.

        Raises:
            InputError: it is damaged, or made by a newer snnc.
        """
        try:
            if int(found["schema"]) > SCHEMA:
                raise InputError("the adaptation was recorded by a newer snnc; upgrade snnc")
            return cls(
                cut=str(found["cut"]),
                latent=str(found["latent"]),
                features=int(found["features"]),
                head=Head(found["head"]),
                ridge=float(found["ridge"]),
                routed=bool(found["routed"]),
                base=Tail.from_dict(found["base"]),
                outputs=tuple(found["outputs"]),
                classes=tuple(str(name) for name in found["classes"]),
                content_sha256=str(found["content_sha256"]),
                edits=tuple(map(Edit.from_dict, found["edits"])),
            )
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(f"the record of the adaptation is damaged ({error}); adapt again") from error


def coded(values: NumberArray) -> Json:
    """Return an array as JSON: type, shape and Base64."""
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    data = base64.b64encode(np.ascontiguousarray(little).tobytes()).decode("ascii")
    return {"dtype": little.dtype.str, "shape": list(values.shape), "data": data}


def decoded(found: Json) -> NumberArray:
    """Read an array; see :func:`coded`.

    Raises:
        ValueError: type, shape and data do not fit.
    """
    if found["dtype"] not in SAFE:
        raise ValueError(f"an array of the type {found['dtype']!r}")
    data = base64.b64decode(str(found["data"]), validate=True)
    values = np.frombuffer(data, np.dtype(str(found["dtype"])))
    return values.reshape([int(size) for size in found["shape"]])


def _sums(sums: CountSums | None) -> Json | None:
    """Return sums as JSON, each in the narrowest type; a Gram matrix as its upper triangle."""
    if sums is None:
        return None
    each = np.array([sums.sums[c] for c in sums.classes], np.int64).reshape(len(sums.classes), sums.features)
    gram = None if sums.gram is None else coded(_narrow(sums.gram[np.triu_indices(sums.features)]))
    return {
        "features": sums.features,
        "rows": {str(c): sums.rows[c] for c in sums.classes},
        "sums": coded(_narrow(each)),
        "gram": gram,
    }


def _read_sums(found: Json | None) -> CountSums | None:
    if found is None:
        return None
    features = int(found["features"])
    rows = {int(label): int(n) for label, n in found["rows"].items()}
    each = decoded(found["sums"]).astype(np.int64)
    if each.shape != (len(rows), features) or any(n < 1 for n in rows.values()):
        raise ValueError("sums do not fit their classes")
    gram = None
    if found["gram"] is not None:
        triangle = decoded(found["gram"])
        if triangle.shape != (features * (features + 1) // 2,):  # before as much memory is asked for
            raise ValueError("a Gram matrix of another size")
        gram = np.zeros((features, features), np.int64)
        gram[np.triu_indices(features)] = triangle
        gram += np.triu(gram, 1).T
    sums = dict(zip(sorted(rows), each, strict=True))
    return CountSums(features, rows, sums, gram)


def _narrow(values: NumberArray) -> NumberArray:
    """Return integers in the narrowest type that holds them."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    for kind in (np.int8, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return values.astype(kind)
    return values
