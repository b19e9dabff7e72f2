"""The options of one conversion: the pipeline that they select, and the candidates that they leave open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from snnc.analysis.front import carried, order
from snnc.errors import InternalError, UsageError
from snnc.frontend.host.dividing import HostMode
from snnc.ir.ann import AnnGraph
from snnc.ir.bounds import MOST_TIMESTEPS
from snnc.ir.snn import INPUT_LIMIT
from snnc.metrics.task import Task, as_task
from snnc.numerics.thresholds import Method
from snnc.numerics.weight_grid import WEIGHT_BITS
from snnc.options import OPTIONS
from snnc.pass_options import make_pass
from snnc.passes import PASSES, PRESETS
from snnc.pipeline import Pipeline, check_order
from snnc.search.choice import Candidate, candidates
from snnc.source.selection import Selection
from snnc.trial import payload

INTEGER_PASSES = ("compensate", "quantise-weights")
"""The passes that make integers: left out in float32. Compensation corrects what integers really do."""

UNCOMPENSATED: tuple[tuple[str, str, object], ...] = (
    ("clip-activations", "floor", False),
    ("init-membrane", "fraction", 0.5),
)
"""What presets do otherwise in float32: floors and late starts are for compensation to make good."""

DEFAULT_TIMESTEPS = 4
"""T of a pipeline, where none is given."""

LEARNING = "learn-thresholds"
"""The pass that ``clip-activations{method=learn}`` stands for."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to convert.

    Attributes:
        timesteps: T; ``None`` to choose it, or for 4 with a pipeline.
        preset: name of a fixed pipeline; ``None`` to choose it: see :mod:`snnc.search.choice`.
        pipeline: a pipeline or its text form, instead of a preset.
        settings: single options, ``{"clip-activations.method": "max"}``.
        precision: ``int8``, or ``float32`` to leave weights and potentials in floats.
        seed: of every random choice.
        threads: used by the source network and the simulator; no result depends on it.
        journal: file in which a search stores its measurements, so that it can be continued; ``None`` to
            store nothing.
        task: kind of the outputs; ``None`` to recognise it from the network, if possible.
        payload: the largest payload of a spike, ``binary``, ``signed`` or ``levels:M``; it restricts the
            candidates.
        shape: sizes of inputs that the file leaves open, as texts, ``NAME=1,3,320,320``.
        fix: values of inputs that are none any more, as texts, ``NAME=16000``.
        keep_output: names of the outputs to keep; empty for all.
        host: where ordinary ONNX may run what has no spiking form: ``none``; ``edges``: before and
            behind; ``any``: also between.
        frames: whether the rows of the result are T frames that add up to a row of the source network.
    """

    timesteps: int | None = None
    preset: str | None = None
    pipeline: Pipeline | str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "int8"
    seed: int = 0
    threads: int | None = None
    journal: Path | None = None
    task: Task | None = None
    payload: str | None = None
    shape: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()
    keep_output: tuple[str, ...] = ()
    host: str = "edges"
    frames: bool = False

    @property
    def selection(self) -> Selection:
        """What is taken of the file.

        Raises:
            UsageError: a shape or a value is not of its form, or something is named twice.
        """
        return Selection.parse(self.shape, self.keep_output, self.fix)

    def __post_init__(self) -> None:
        """Refuse values of another kind, in one line.

        Raises:
            UsageError: naming the option.
        """
        for item in fields(self):
            value = getattr(self, item.name)
            if not isinstance(value, Pipeline | Task):
                object.__setattr__(self, item.name, OPTIONS[item.name].checked(value))
        object.__setattr__(self, "task", as_task(self.task))

    @property
    def steps(self) -> int:
        """T, where it needs no choice."""
        if self.timesteps is None:
            if self.pipeline is None:
                raise InternalError("the number of steps is not chosen yet")
            return DEFAULT_TIMESTEPS
        return self.timesteps

    @property
    def host_mode(self) -> HostMode:
        """Where the host may keep a part of the network."""
        return HostMode(self.host)

    @property
    def fits(self) -> bool:
        """Whether a pass fits layers to spikes, which takes memory."""
        return "compensate" in self.passes().names

    def alternatives(self) -> dict[Candidate, Options]:
        """Return what may be chosen; nothing where preset and steps, or a pipeline, are given.

        Candidates whose passes do not take the settings are left out; for those that carry more than the
        payload, see :func:`alternatives`.

        Raises:
            UsageError: see :meth:`passes`; no candidate takes the settings.
        """
        if self.pipeline is not None or (self.preset is not None and self.timesteps is not None):
            self.passes()
            return {}
        if self.preset is not None:
            _require_preset(self.preset)
        found: dict[Candidate, Options] = {}
        refused: UsageError | None = None
        for each in candidates(self.preset, self.timesteps, self.payload):
            options = replace(self, preset=each.preset, timesteps=each.timesteps)
            try:
                options.passes()
            except UsageError as error:
                refused = refused or error
            else:
                found[each] = options
        if refused is not None and not found:
            raise refused
        return found

    def passes(self) -> Pipeline:
        """Return the pipeline that these options ask for.

        Raises:
            UsageError: an unknown preset, pass or option, or passes in an order that cannot work.
        """
        _require_preset(self.preset)
        found = self.given()
        learning = {key: value for key, value in self.settings.items() if key.startswith(LEARNING + ".")}
        others = {key: value for key, value in self.settings.items() if key not in learning}
        found = _with_learning(found.with_settings(others)).with_settings(learning)
        if self.precision == "float32" and "lower-quantised" in found.names:
            raise UsageError("`lower-quantised` makes integers: leave out --precision float32")
        if self.precision == "float32":
            made = [name for name in INTEGER_PASSES if name in found.names]
            if any(getattr(item, "sparsity", None) is not None for item in found):
                raise UsageError(
                    "`compensate` takes weights out while it makes integers: leave out --precision float32, "
                    "or density and pattern"
                )
            if any(getattr(item, "bits", WEIGHT_BITS) < WEIGHT_BITS for item in found):
                raise UsageError(
                    "weights of fewer bits are integers: leave out --precision float32, or bits of the passes"
                )
            found = found.without(*made)
        elif self.steps > MOST_TIMESTEPS:
            raise UsageError(
                f"T = {self.steps} is more than the {MOST_TIMESTEPS} steps that integers are proved for"
            )
        check_order(found)
        if self.frames:
            found = _for_frames(found, self.steps)
        return found

    def given(self) -> Pipeline:
        """Return the pipeline, or that of the preset, before any setting."""
        if isinstance(self.pipeline, Pipeline):
            return self.pipeline
        if self.pipeline is not None:
            return Pipeline.parse(self.pipeline, PASSES)
        if self.preset is None:
            raise InternalError("the preset is not chosen yet")
        found = PRESETS[self.preset].pipeline
        return _uncompensated(found) if self.precision == "float32" else found


DEFAULTS = Options()
"""What is asked for where nothing is said."""


def _require_preset(name: str | None) -> None:
    if name is not None and name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")


def _uncompensated(preset: Pipeline) -> Pipeline:
    """Return the pipeline of a preset for float32, where nothing compensates."""
    for name, option, value in UNCOMPENSATED:
        if any(item.name == name and getattr(item, option) != value for item in preset):
            preset = preset.with_option(name, **{option: value})
    return preset


def _for_frames(pipeline: Pipeline, timesteps: int) -> Pipeline:
    """Return a pipeline whose input has so small integers that all of it may come in one frame."""
    if "lower" not in pipeline.names:
        return pipeline
    given = next(item for item in pipeline if item.name == "lower")
    limit = min(getattr(given, "input_limit", INPUT_LIMIT), max(1, INPUT_LIMIT // timesteps))
    return pipeline.with_option("lower", input_limit=limit)


def unlearned(pipeline: Pipeline) -> Pipeline:
    """Return a pipeline with the closed form in place of thresholds that are learned: to compare with."""
    closed = pipeline.without(LEARNING) if LEARNING in pipeline.names else pipeline
    return closed.with_option("clip-activations", method=Method.MSE) if _asks_to_learn(closed) else closed


def _with_learning(pipeline: Pipeline) -> Pipeline:
    """Add the search for thresholds, where it is asked for, before the passes that make integers."""
    if LEARNING in pipeline.names or not _asks_to_learn(pipeline):
        return pipeline
    at = next((i for i, name in enumerate(pipeline.names) if name in INTEGER_PASSES), len(pipeline))
    return Pipeline((*pipeline[:at], make_pass(LEARNING, {}, PASSES), *pipeline[at:]))


def _asks_to_learn(pipeline: Pipeline) -> bool:
    return any(getattr(item, "method", None) is Method.LEARN for item in pipeline)


def alternatives(options: Options, graph: AnnGraph) -> dict[Candidate, Options]:
    """Return what may be chosen for a network: nothing where preset and steps, or a pipeline, are given.

    Raises:
        UsageError: no candidate takes the settings, or all of them carry more than the payload.
        UnsupportedModelError: the network cannot be lowered.
    """
    among = options.alternatives()
    if options.payload is None:
        return among
    asked = carried(options.payload)
    sent = {
        candidate: payload(graph, each.passes(), each.steps)
        for candidate, each in among.items() or ((None, options),)
    }
    kept = [candidate for candidate, found in sent.items() if order(found) <= asked]
    if not kept:
        first, least = min(sent.items(), key=lambda item: order(item[1]))
        who = first or (
            f"{options.preset}, T = {options.steps}" if options.pipeline is None else "the pipeline"
        )
        raise UsageError(
            f"{who}: sends {least} spikes in this network, and only {options.payload} are asked for: "
            f"name no preset or another, or ask for the payload {least}"
        )
    return {candidate: each for candidate, each in among.items() if candidate in kept}
