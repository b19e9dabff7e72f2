"""Findings about a model, each with a stable code that ``snnc explain`` knows.

Codes never change their meaning; their first digit stands for one of :data:`GROUPS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

PAGE = "reference/diagnostics.md"
"""The page of all codes, from the folder ``docs``; ``snnc explain --format markdown`` writes it."""

GROUPS = {
    "1": "Reading the ONNX file",
    "2": "Calibration and rows",
    "3": "Conversion",
    "4": "Targets",
}
"""What the first digit of a code stands for."""


class Severity(Enum):
    """How bad a finding is."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Code:
    """A kind of finding.

    Attributes:
        number: such as ``SNN101``.
        title: what it is, in a few words.
        explanation: why it matters and how to mend it.
        severity: how bad it is.
    """

    number: str
    title: str
    explanation: str
    severity: Severity = Severity.ERROR

    @property
    def page(self) -> str:
        """Its place in the documentation, from the folder ``docs``."""
        return f"{PAGE}#{self.number.lower()}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding at one place.

    Attributes:
        code: the kind.
        message: what is wrong here, one line.
        node: name of the ONNX node or tensor; empty if it concerns the whole model.
        help: what to do about it, one line.
    """

    code: Code
    message: str
    node: str = ""
    help: str = ""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.code.severity

    def as_dict(self) -> dict[str, str]:
        """Return the JSON form: ``code``, ``severity``, ``node``, ``message``, ``help``."""
        return {
            "code": self.code.number,
            "severity": self.severity.value,
            "node": self.node,
            "message": self.message,
            "help": self.help,
        }

    @property
    def reason(self) -> str:
        """One line for the end of a sentence: code, node, message and cure."""
        where = f" at {self.node!r}" if self.node else ""
        cure = f" ({self.help})" if self.help else ""
        return f"{self.code.number}{where}: {self.message}{cure}"

    def __str__(self) -> str:
        """Return one line for a terminal."""
        return f"{self.severity.value} {self.reason}"


@dataclass(frozen=True, slots=True)
class Cause:
    """Findings that differ only in where they are, and in names and sizes.

    Attributes:
        findings: in the order of the model; the first speaks for all.
    """

    findings: tuple[Diagnostic, ...]

    @property
    def places(self) -> str:
        """How often, and where first."""
        first = ", ".join(repr(item.node) for item in self.findings[:FIRST_PLACES])
        return f"{len(self.findings)} times, first at {first}"

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form: ``code``, ``severity``, ``message``, ``help``, ``count``, ``nodes``."""
        told = {key: value for key, value in self.findings[0].as_dict().items() if key != "node"}
        return {**told, "count": len(self.findings), "nodes": [item.node for item in self.findings]}

    def __str__(self) -> str:
        """Return one line for a terminal; a message that begins with a name is counted behind the name."""
        first = self.findings[0]
        if len(self.findings) == 1:
            return str(first)
        name = _NAMED.match(first.message)
        message = (
            f"{first.message[: name.end(1)]} ({self.places}){first.message[name.end(1) :]}"
            if name
            else f"{first.message}, {self.places}"
        )
        cure = f" ({first.help})" if first.help else ""
        return f"{first.severity.value} {first.code.number}: {message}{cure}"


FIRST_PLACES = 3
"""How many places of one cause are named."""

_NAMED = re.compile(r"((?:the operator )?\w+)(?:: | is not supported)")
_PARTICULAR = re.compile(r"'[^']*'|\"[^\"]*\"|[\[(][-\d., ]*[\])]|-?\d[\w.+-]*")


def causes(found: Iterable[Diagnostic]) -> tuple[Cause, ...]:
    """Group findings by their cause, the most frequent first."""
    groups: dict[tuple[str, str, str], list[Diagnostic]] = {}
    for item in found:
        key = (item.code.number, _PARTICULAR.sub("", item.message), _PARTICULAR.sub("", item.help))
        groups.setdefault(key, []).append(item)
    return tuple(Cause(tuple(group)) for group in sorted(groups.values(), key=len, reverse=True))


UNSUPPORTED_OPERATOR = Code(
    "SNN101",
    "unsupported operator",
    "The operator has no spiking form here: `snnc ops` lists those that have one, among them linear "
    "operations, pooling, functions of one value, products, softmax and norms. At the edges of a network, or "
    "between spikes, such an operator may run as ordinary ONNX: `--host edges`, `--host any`. Otherwise "
    "replace it, fine-tune, and export again.",
)
UNSUPPORTED_ATTRIBUTE = Code(
    "SNN102",
    "unsupported form of an operator",
    "The operator is supported, but not with these attributes or inputs. The message names the attribute.",
)
UNSUPPORTED_STRUCTURE = Code(
    "SNN103",
    "unsupported structure",
    "The operators are supported, but not in this arrangement: for example rows of one batch that are "
    "joined, or an output that is an input as it is. The message says what arrangement it is.",
)
DYNAMIC_SHAPE = Code(
    "SNN104",
    "shape not known",
    "A shape depends on the data or on a dynamic dimension other than the batch. Export with fixed height "
    "and width.",
)
OPSET = Code(
    "SNN105",
    "opset not supported",
    "The file uses an operator set that is too old or from an unknown domain. Upgrade it with "
    "onnx.version_converter, or export again with opset 13 or newer.",
)
NON_FINITE_WEIGHT = Code(
    "SNN106",
    "weights are not finite",
    "A constant of the network contains NaN or infinity. The training diverged or the file is damaged.",
)
QUANTISED_GRAPH = Code(
    "SNN107",
    "quantised network",
    "The file holds an operator of quantised networks that has no spiking form here, such as dynamic "
    "quantisation, whose scale depends on each input. Static QDQ graphs, QLinear operators and QONNX's Quant "
    "are read: `snnc ops` lists them.",
)
NO_INPUT_OR_OUTPUT = Code(
    "SNN108",
    "no input or no output",
    "A network needs inputs and outputs, each with a name of its own. Export it again with them.",
)
CHECKER = Code(
    "SNN120",
    "onnx's checker complains",
    "The file breaks a rule of ONNX that runtimes do not need. It is read as onnxruntime reads it.",
    Severity.WARNING,
)
OTHER_PRECISION = Code(
    "SNN121",
    "computed in another precision",
    "The network computes in float16, bfloat16 or float64, and is converted in float32, in which its weights "
    "are exact or rounded once. The answers of the source may differ in the last digits.",
    Severity.WARNING,
)
OLD_OPSET = Code(
    "SNN122",
    "old operator set",
    "The file uses an operator set before 7, of which onnxruntime has only parts. It is read by the rules of "
    "that set. Where onnxruntime cannot run it, onnx's version converter upgrades it before it is evaluated.",
    Severity.WARNING,
)
APPROXIMATED = Code(
    "SNN123",
    "read as a function close to it",
    "A chain of operations is converted as one operation that computes nearly the same, as a normalisation "
    "whose epsilon stands behind the root as one with its square beside the variance. Both differ only where "
    "the standard deviation is about as small as epsilon.",
    Severity.WARNING,
)
WHOLE_ROW = Code(
    "SNN124",
    "an input whose row is the whole tensor",
    "The file is for a batch of one, and this input does not have that one in front: as the state of a "
    "recurrent network, (layers, 1, size), or a vector without a batch. One run of the file is one "
    "row, so a row of this input is all of it, and n rows have the shape (n, layers, 1, size). Where the "
    "first size is meant to be a batch, export the model with the same batch in front of every input.",
    Severity.WARNING,
)
HOST_SHARE = Code(
    "SNN130",
    "too little is left for spikes",
    "Operations without a spiking form may run as ordinary ONNX before and behind the spiking network "
    "(`--host edges`), or also between spikes (`--host any`). Here nearly everything would: spikes would do "
    "less than half of the multiply-accumulates, no population would be left, or the finding names no node "
    "that can be cut off. The other findings name the causes.",
    Severity.WARNING,
)
FEW_ROWS = Code(
    "SNN201",
    "few calibration rows",
    "Thresholds from fewer than 100 rows are noisy. 500 to 1,000 training rows are enough.",
    Severity.WARNING,
)
LOOKS_UNNORMALISED = Code(
    "SNN202",
    "calibration data look wrongly normalised",
    "The source network separates these rows far better if they are scaled, centred or ordered in "
    "another way, so it was probably trained on rows of that form. Check the preprocessing: scale, mean, "
    "standard deviation, channel order and layout must be those of the training. Low confidence of the "
    "network alone is not reported.",
    Severity.WARNING,
)
OVERLAP = Code(
    "SNN203",
    "calibration and evaluation rows overlap",
    "Accuracy on rows that were used for calibration is too optimistic. Use different rows for evaluation.",
    Severity.WARNING,
)
UNLIKE_CALIBRATION = Code(
    "SNN204",
    "rows are not distributed as the calibration rows",
    "The artefact was calibrated on rows with another scale, mean, channel order or layout, so its answers "
    "to these rows are unreliable. The artefact applies its stored preprocessing: give rows in the form of "
    "its calibration rows. Rows of other classes, darker rows, or a few rows are not reported.",
    Severity.WARNING,
)
OTHER_TIMESTEPS = Code(
    "SNN301",
    "not calibrated for this T",
    "Thresholds and compensation were fitted for another number of steps. Convert again with this T.",
    Severity.WARNING,
)
FALLBACK = Code(
    "SNN302",
    "a pass fell back to its safe form",
    "The requested fit had too few rows, or no unique solution; or what was to be learned by gradients "
    "diverged, or is no better than the closed form.",
    Severity.WARNING,
)
DEAD_CHANNELS = Code(
    "SNN303",
    "channels that never fired",
    "Some channels were zero on all calibration rows. Their range is unknown, so they are constant zero in "
    "the spiking network, as on these rows. If they are active on other rows, calibrate with such rows; if "
    "not, they are dead and can be pruned from the source.",
    Severity.WARNING,
)
APPROXIMATED_LEVELS = Code(
    "SNN304",
    "counts are not exactly the source's levels",
    "The source network is quantised, and a population ends with its levels where the weights are integer "
    "multiples of a scale and one sum of integers is rounded. The message names what is not: weights in "
    "floats, an input that is not rounded, currents of different scales in one sum.",
    Severity.WARNING,
)
OTHER_LEVELS = Code(
    "SNN305",
    "the source's levels are not kept",
    "The source network rounds its activations to levels of its own, and this pipeline chooses others. The "
    "preset `exact` keeps them, for every T.",
    Severity.WARNING,
)
UNSEEN_RANGE = Code(
    "SNN306",
    "an activation of unknown range",
    "The calibration rows give an activation one and the same value, so that nothing is known of the values "
    "that it takes on other rows, and of the levels that it needs for them. Calibrate with rows of all kinds "
    "that the network will receive.",
    Severity.WARNING,
)
COARSE_SOFTMAX = Code(
    "SNN307",
    "a softmax of coarse arguments",
    "A softmax within the network reads arguments that lie so far apart that the levels of their spikes "
    "cannot tell those that matter: its weights differ from the source's. Sharp attention, with large scales "
    "in front of the softmax, needs more levels than smooth attention.",
    Severity.WARNING,
)
FAR_FROM_SOURCE = Code(
    "SNN308",
    "outputs far from the source's",
    "On calibration rows, which a conversion should fit best, an output of the converted network is far from "
    "the source's: the error of numbers has more than a tenth of the power with which they vary (an SQNR "
    "below 10 dB), or more than 15 % of the rows get another class. Too few steps or levels are the usual "
    "reasons, and activations with rare large values; a network may also depend on numbers more precise than "
    "its spikes can carry. `snnc eval --against` measures the loss on other rows, `snnc report` names the "
    "layers that cause it.",
    Severity.WARNING,
)
TARGET_LIMIT = Code(
    "SNN401",
    "does not fit the target",
    "The target does not support this operation or setting. The message says what to change.",
)

CODES = {
    code.number: code
    for code in (
        UNSUPPORTED_OPERATOR,
        UNSUPPORTED_ATTRIBUTE,
        UNSUPPORTED_STRUCTURE,
        DYNAMIC_SHAPE,
        OPSET,
        NON_FINITE_WEIGHT,
        QUANTISED_GRAPH,
        NO_INPUT_OR_OUTPUT,
        CHECKER,
        OTHER_PRECISION,
        OLD_OPSET,
        APPROXIMATED,
        WHOLE_ROW,
        HOST_SHARE,
        FEW_ROWS,
        LOOKS_UNNORMALISED,
        OVERLAP,
        UNLIKE_CALIBRATION,
        OTHER_TIMESTEPS,
        FALLBACK,
        DEAD_CHANNELS,
        APPROXIMATED_LEVELS,
        OTHER_LEVELS,
        UNSEEN_RANGE,
        COARSE_SOFTMAX,
        FAR_FROM_SOURCE,
        TARGET_LIMIT,
    )
}
"""Every code, by number."""
