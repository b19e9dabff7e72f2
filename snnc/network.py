"""The interface in three lines: convert a network, see how well it does, take it somewhere."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnc import __version__, adaptation, compiler, notebook
from snnc.adaptation.buffer import ReplayBuffer, read_buffer
from snnc.analysis.artefacts import calibrated_on, evaluate_artefact, unlike_calibration
from snnc.analysis.evaluation import Evaluation
from snnc.arguments import Model, as_artefact, as_names, as_preprocessing, labelled_rows, shape_texts, whole
from snnc.artefact import Artefact
from snnc.artefact import load as load_artefact
from snnc.artefact import save as save_artefact
from snnc.artefact.adaptations import Edit
from snnc.backends import load_backend, load_simulator
from snnc.backends.deployment import deploy as deploy_artefact
from snnc.backends.torch_module import to_spikingjelly
from snnc.backends.torch_module import to_torch as module_of
from snnc.data.datasets import is_dataset, read_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.diagnostics import Diagnostic
from snnc.errors import InputError, UsageError
from snnc.ir.batch import Rows
from snnc.ir.snn import IntegrateFire
from snnc.metrics.task import Task, as_task
from snnc.models import PREFIX, calibration_data, resolve
from snnc.pipeline import Pipeline
from snnc.progress import Callback, Progress, as_progress
from snnc.report.document import Report
from snnc.report.making import make_report, write_report
from snnc.report.origin import prepared_source
from snnc.report.plotting import Plot, draw
from snnc.search.choice import Choice
from snnc.simulation.protocol import Trace
from snnc.simulation.targets import Bundle
from snnc.sources import Located, open_source, source_file

if TYPE_CHECKING:
    from snnc.backends.torch_module.module import SpikingModule
    from snnc.backends.torch_module.spikingjelly_module import SpikingJellyModule
    from snnc.report.drawing import Chart

_log = logging.getLogger("snnc")

CALIBRATION_ROWS = 1000
"""Rows of a data set or a loader that are calibrated on: more change little."""


@dataclass(frozen=True, eq=False, repr=False)
class ConvertedNetwork(Artefact):
    """A spiking network, and what is done with it: the result of :func:`convert` and of :func:`load`.

    Attributes:
        path: of its file; ``None`` where it was not loaded.
        source: bytes of the network that it came from, where that came without a path.
        warnings: findings about the network and the rows; they were logged, too.
        choice: of preset and steps, with the candidates; ``None`` where both were given, and of a loaded one.
    """

    path: Path | None = None
    source: bytes | None = None
    warnings: tuple[Diagnostic, ...] = ()
    choice: Choice | None = None

    def _repr_html_(self) -> str:
        """Return what it is as a table, and its layers as bars, for notebooks."""
        density = self.graph.density
        populations = self.graph.of_type(IntegrateFire)
        measured = all(node.name in density for node in populations)
        bars = [
            (node.name, density[node.name], f"{density[node.name]:.2%}") for node in populations if measured
        ]
        shown = [(name, value) for name, value in self._facts().items() if value]
        spark = notebook.sparkline("Share of the neurons of every layer that fire in a step", bars)
        return notebook.table("snnc artefact", shown) + spark

    def simulate(
        self, rows: Any, *, timesteps: int | None = None, backend: str = "numba", threads: int | None = None
    ) -> Trace:
        """Run it on a batch; see :func:`snnc.simulate`."""
        return compiler.simulate(self, rows, timesteps=timesteps, backend=backend, threads=threads)

    def evaluate(
        self,
        rows: Any = None,
        labels: Any = None,
        *,
        limit: int | None = None,
        timesteps: int | None = None,
        backend: str = "numba",
        compare: bool = True,
        task: Task | str | None = None,
        metrics: Sequence[str] = (),
        threads: int | None = None,
        progress: Progress | Callback | bool | None = None,
    ) -> Evaluation:
        """Measure accuracy or other metrics with 95 % intervals, spikes, and operations per row.

        Args:
            rows: as :func:`snnc.simulate` takes them; a data set or a loader, which bring their labels; or a
                path as ``snnc eval --data`` takes it. The test rows of the zoo by default, where the network
                is of it.
            labels: (n,) classes or (n, outputs) numbers; of several outputs by their names.
            limit: use so many rows: of a data set at even distances, else the first.
            timesteps: T; the calibrated value by default.
            backend: ``numba``, ``onnx`` or ``reference``.
            compare: also run the source network, where it is at hand.
            task: what the outputs are; recognised by default.
            metrics: see ``docs/metrics.md``; those of the task by default.
            threads: at most this many.
            progress: ``True`` for bars, also in notebooks; or called with (done, total, description).

        Raises:
            InputError: rows or labels do not fit.
            UsageError: there are no rows, or an option makes no sense.
        """
        threads = None if threads is None else whole(threads, "threads", 1)
        x, y = labelled_rows(self, rows, labels, limit)
        simulator = load_simulator(backend, threads)
        self._warn_of(x, simulator.name, threads)
        seen = calibrated_on(self, x)
        if seen is not None:
            _log.warning("%s", seen)
        with contextlib.ExitStack() as stack:
            source = None
            if compare:
                try:
                    located = stack.enter_context(self._located())
                except InputError as error:
                    _log.warning("the source network is not compared: %s", error)
                else:
                    source = open_source(_log.debug, located, self.preprocessing, threads, self.selection)
            return evaluate_artefact(
                self,
                x,
                y,
                simulator=simulator,
                counter=load_simulator("numba", threads) if simulator.name == "onnx" else None,
                timesteps=None if timesteps is None else whole(timesteps, "T", 1),
                source=source,
                task=as_task(task),
                metrics=metrics,
                progress=_shown(progress),
            )

    def report(
        self,
        rows: Any = None,
        labels: Any = None,
        *,
        output: str | os.PathLike[str] | None = None,
        limit: int | None = None,
        timesteps: int | None = None,
        task: Task | str | None = None,
        pictures: int | None = None,
        classes: Sequence[str] = (),
        threads: int | None = None,
        progress: Progress | Callback | bool | None = None,
    ) -> Report:
        """Measure the error of every layer, split it into its causes, and suggest what to try.

        Accuracy against T, which takes a run for each, is drawn by ``snnc report`` alone.

        Args:
            rows: as :meth:`evaluate` takes them.
            labels: likewise.
            output: where to write the page, or the figures, ``.json``; a file that exists is replaced.
            limit: use so many rows.
            timesteps: T; the calibrated value by default.
            task: what the outputs are; recognised by default.
            pictures: the row that is walked through the network in pictures of spikes, 0 for the first; by
                default the page has no such pictures.
            classes: names of the classes; those of the zoo for its networks, else numbers.
            threads: at most this many.
            progress: ``True`` for bars, also in notebooks; or called with (done, total, description).

        Raises:
            InputError: rows or labels do not fit, or the source network is not found.
            UsageError: there are no rows, or the page needs what is not installed.
        """
        from snnc.backends.numba_cpu import NumbaSimulator  # takes a second that loading can do without

        threads = None if threads is None else whole(threads, "threads", 1)
        x, y = labelled_rows(self, rows, labels, limit)
        self._warn_of(x, "numba", threads)
        questions = len(self.graph.of_type(IntegrateFire)) + 2
        simulator = NumbaSimulator(threads, prepared=questions)
        with self._located() as located:
            found = make_report(
                self,
                prepared_source(self, located.path, simulator),
                x,
                y,
                simulator=simulator,
                reproduce=self._reproduced(),
                task=as_task(task),
                timesteps=None if timesteps is None else whole(timesteps, "T", 1),
                threads=threads,
                progress=_shown(progress),
                classes=tuple(classes),
                picture_row=None if pictures is None else whole(pictures, "pictures", 0),
            )
        if output is not None:
            write_report(found, Path(output))
        return found

    def plot(
        self,
        kind: str,
        rows: Any = None,
        labels: Any = None,
        *,
        row: int = 0,
        limit: int | None = None,
        layers: Sequence[str] = (),
        neurons: Sequence[str] = (),
        classes: Sequence[str] = (),
        timesteps: int | None = None,
        threads: int | None = None,
        progress: Progress | Callback | bool | None = None,
    ) -> Chart:
        """Draw spikes, potentials or answers; a notebook shows the picture, ``file()`` is its SVG.

        Args:
            kind: ``raster``, ``potentials``, ``answers`` or ``walk``, of one row; ``counts`` or
                ``activity``, of all.
            rows: as :meth:`evaluate` takes them.
            labels: likewise.
            row: which one, of kinds of one row.
            limit: use so many rows.
            layers: names of populations; all by default.
            neurons: ``LAYER:INDEX``, for potentials; the busiest of some layers by default.
            classes: names of the outputs.
            timesteps: T; the calibrated value by default.
            threads: at most this many.
            progress: ``True`` for bars, also in notebooks; or called with (done, total, description).

        Raises:
            InputError: there is no such row or layer.
            UsageError: an option has no effect, or matplotlib is not installed.
        """
        threads = None if threads is None else whole(threads, "threads", 1)
        steps = None if timesteps is None else whole(timesteps, "T", 1)
        plot = Plot(kind, whole(row, "row", 0), tuple(layers), tuple(neurons), tuple(classes), steps)
        x, y = labelled_rows(self, rows, labels, limit)
        self._warn_of(x, "numba", threads)
        return draw(self, x, y, plot, load_simulator("numba", threads), _shown(progress))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, by custom ``NAME.snn.onnx``; see :func:`snnc.artefact.save`."""
        save_artefact(self, path)

    def adapt(
        self,
        rows: Any,
        labels: Any = None,
        *,
        head: str | None = None,
        cut: str | None = None,
        replay: ReplayBuffer | str | os.PathLike[str] | None = None,
        replay_bytes: int | None = None,
        replay_window: int = 0,
        improve: bool = False,
        names: Sequence[str] = (),
        ridge: float | None = None,
        route: bool | None = None,
        epochs: int = 30,
        rate: float = 0.05,
        seed: int = 0,
        backend: str = "numba",
        threads: int | None = None,
        progress: Progress | Callback | bool | None = None,
    ) -> AdaptedNetwork:
        """Learn new classes, or more of old ones, behind a cut; nothing before it changes.

        Args:
            rows: as :meth:`evaluate` takes them.
            labels: the index of the output of each row; new classes follow those that exist.
            head: ``linear`` (ridge regression), ``prototype`` (cosine), or ``gradient``, which needs torch;
                by default linear, or what the network has learned with before.
            cut: the layer behind which is learned; the classifier by default.
            replay: rows of earlier classes, or the path of a buffer.
            replay_bytes: make or keep a buffer of so many bytes; it is the result's ``buffer``.
            replay_window: steps that a buffer of spike trains ORs to one; 0 for counts.
            improve: allow labels of classes that exist.
            names: of the new classes.
            ridge: of a linear head, in units of the mean variance of a count; 0.001 by default.
            route: each edit is a head of its own, and rows go to the most similar one.
            epochs: of gradients.
            rate: of gradients.
            seed: of gradients.
            backend: the simulator.
            threads: at most this many.
            progress: ``True`` for bars, also in notebooks; or called with (done, total, description).

        Raises:
            InputError: rows, labels or the buffer do not fit.
            UsageError: the network or an option does not allow it.
        """
        threads = None if threads is None else whole(threads, "threads", 1)
        x, y = labelled_rows(self, rows, labels, None)
        if y is None or isinstance(y, Mapping):
            raise InputError("the rows to learn come without labels: give the class of each")
        found = adaptation.adapt(
            self,
            x,
            y,
            adaptation.Options(
                cut=cut,
                head=adaptation.head_of(head),
                ridge=ridge,
                improve=improve,
                route=route,
                names=as_names(names, "names of classes"),
                replay_bytes=None if replay_bytes is None else whole(replay_bytes, "replay_bytes", 1),
                replay_window=whole(replay_window, "replay_window", 0),
                epochs=whole(epochs, "epochs", 1),
                rate=rate,
                seed=whole(seed, "seed", 0),
            ),
            load_simulator(backend, threads),
            read_buffer(replay) if isinstance(replay, str | os.PathLike) else replay,
            progress=_shown(progress),
        )
        for note in found.notes:
            _log.warning("%s", note)
        kept = {item.name: getattr(found.artefact, item.name) for item in fields(Artefact)}
        return AdaptedNetwork(**kept, source=self.source, edit=found.edit, buffer=found.buffer)

    def revoke(self, edit: str) -> ConvertedNetwork:
        """Return the network without an edit: byte for byte what it would be if it had never learned it.

        Args:
            edit: its ID, or the first digits.

        Raises:
            UsageError: there is no such edit, or gradients have learned on top of it.
        """
        found, _ = adaptation.revoke(self, edit)
        kept = {item.name: getattr(found, item.name) for item in fields(Artefact)}
        return ConvertedNetwork(**kept, source=self.source)

    def deploy(
        self,
        target: str,
        directory: str | os.PathLike[str],
        *,
        profile: str | None = None,
        layout: str | None = None,
        rows: Any = None,
        accept_semantics: bool = False,
        force: bool = False,
    ) -> Bundle:
        """Write a bundle for a target: its files, a manifest with hashes, a guide, and golden vectors.

        Args:
            target: see ``snnc targets``.
            directory: the folder to make.
            profile: of the target; its first by default.
            layout: of the files, where the target has several, such as ``cmake`` for ``c99``.
            rows: for the golden vectors; made up by default.
            accept_semantics: write it although the target computes something else.
            force: replace an earlier bundle.

        Raises:
            TargetError: the network does not fit, or the target computes something else.
        """
        return deploy_artefact(
            self,
            load_backend(target, profile, layout),
            Path(directory),
            rows=rows,
            source=self.path,
            force=force,
            accept_semantics=accept_semantics,
        )

    def to_torch(self) -> SpikingModule:
        """Return it as a ``torch.nn.Module`` with its exact semantics; see :func:`to_torch`."""
        return module_of(self)

    def to_spikingjelly(self, step_mode: str = "s") -> SpikingJellyModule:
        """Return it in the shape of SpikingJelly's modules: a step a call, or ``m`` for T steps at once."""
        return to_spikingjelly(self, step_mode)

    def _warn_of(self, x: Rows, backend: str, threads: int | None) -> None:
        found = unlike_calibration(self, x, load_simulator(backend, threads))
        if found is not None:
            _log.warning("%s", found)

    def _located(self) -> contextlib.AbstractContextManager[Located]:
        path = Path(self.graph.name) if self.path is None else self.path
        return source_file(self.metadata, path, self.source)

    def _reproduced(self) -> dict[str, str]:
        metadata = self.metadata
        model = self.model().SerializeToString(deterministic=True)
        return {
            "made by": f"snnc {__version__}, from Python; the artefact by snnc {metadata.snnc_version}",
            "artefact, SHA-256": hashlib.sha256(model).hexdigest(),
            "source": metadata.source_path,
            "source, SHA-256": metadata.source_sha256,
            "seed": str(metadata.calibration.get("seed", "unknown")),
            "pipeline": metadata.pipeline,
        }


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedNetwork(ConvertedNetwork):
    """A network that has learned after its conversion: the result of :meth:`ConvertedNetwork.adapt`.

    Attributes:
        edit: the record of what it learned last.
        buffer: rows to replay, if a buffer was asked for.
    """

    edit: Edit | None = None
    buffer: ReplayBuffer | None = None


def convert(
    model: Model,
    calibration: Any = None,
    *,
    timesteps: int | None = None,
    preset: str | None = None,
    pipeline: Pipeline | str | None = None,
    settings: Mapping[str, Any] | None = None,
    precision: str = "int8",
    seed: int = 0,
    preprocessing: Preprocessing | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: Progress | Callback | bool | None = None,
    task: Task | str | None = None,
    payload: str | None = None,
    shape: Mapping[str, Sequence[int]] | Sequence[str] = (),
    keep_output: Sequence[str] = (),
    host: str = "edges",
) -> ConvertedNetwork:
    """Convert a trained network; see :func:`snnc.compiler.convert` for what it does.

    Args:
        model: path of an ONNX file, ``zoo:NAME``, an ``onnx.ModelProto``, its bytes, or a
            ``torch.nn.Module``.
        calibration: unlabelled rows of training data, as :func:`snnc.compiler.convert` takes them, or a data
            set or a loader, of which 1,000 rows are used; labels do not count. Of a network of the zoo its
            own by default.
        timesteps: T; chosen by default.
        preset: a fixed pipeline; chosen by default.
        pipeline: a pipeline or its text form, instead of a preset.
        settings: options of single passes, ``{"clip-activations.method": "max"}``.
        precision: ``int8`` or ``float32``.
        seed: of every random choice.
        preprocessing: from raw rows to what the network takes; stored in the artefact.
        threads: at most this many; no result depends on it.
        progress: ``True`` for bars, also in notebooks; or called with (done, total, description).
        task: kind of the outputs, ``classes``, ``binary`` or ``regression``; recognised by default.
        payload: the largest payload of a spike.
        shape: (batch, *shape) of inputs whose sizes the file leaves open, by their names.
        keep_output: names of the outputs to keep, all by default.
        host: what may run as ordinary ONNX.

    Raises:
        UnsupportedModelError: the network holds something that cannot be converted.
        InputError: the file or the rows are damaged or do not fit.
        UsageError: an option makes no sense, or the network is an artefact already.
    """
    options = compiler.Options(
        timesteps,
        preset,
        pipeline,
        {} if settings is None else settings,
        precision,
        seed,
        threads,
        task=as_task(task),
        payload=payload,
        shape=shape_texts(shape),
        keep_output=as_names(keep_output, "outputs to keep"),
        host=host,
    )
    if calibration is None:
        if not isinstance(model, str) or not model.startswith(PREFIX):
            raise UsageError("no calibration rows: give 500 to 1,000 of the training data")
        entry = resolve(model)
        calibration = calibration_data(entry)[0]
        preprocessing = entry.preprocessing if preprocessing is None else preprocessing
    if is_dataset(calibration):
        sampled = read_dataset(calibration, CALIBRATION_ROWS)
        if sampled.is_part:
            _log.info("calibrated on %d of %s", len(sampled.x), sampled.name)
        calibration = sampled.x
    made = compiler.convert(
        model, calibration, options, preprocessing=as_preprocessing(preprocessing), progress=_shown(progress)
    )
    for finding in made.diagnostics:
        _log.warning("%s", finding)
    kept = {item.name: getattr(made.artefact, item.name) for item in fields(Artefact)}
    return ConvertedNetwork(**kept, source=made.source, warnings=made.diagnostics, choice=made.choice)


def load(path: str | os.PathLike[str]) -> ConvertedNetwork:
    """Read an artefact; see :func:`snnc.artefact.load`.

    Args:
        path: of the file, or ``zoo:NAME`` of a bundled spiking network.

    Raises:
        ArtefactError: it is damaged, foreign, or made by a newer snnc.
        InputError: it cannot be read, or the zoo has no such network.
    """
    if isinstance(path, str) and path.startswith(PREFIX):
        entry = resolve(path)
        if entry.timesteps is None:
            raise InputError(f"{path} is not an artefact: convert it first with snnc.convert({path!r}, ...)")
        path = entry.path
    found = load_artefact(path)
    kept = {item.name: getattr(found, item.name) for item in fields(Artefact)}
    return ConvertedNetwork(**kept, path=Path(os.fsdecode(path)))


def to_torch(artefact: Artefact | str | os.PathLike[str]) -> SpikingModule:
    """Return an artefact, or the one in a file, as a ``torch.nn.Module`` with its exact semantics.

    Raises:
        UsageError: torch is not installed, or a part of the network runs as ordinary ONNX.
    """
    return module_of(as_artefact(artefact))


def _shown(progress: Progress | Callback | bool | None) -> Progress:
    """Return what shows progress; bars for ``True``."""
    if isinstance(progress, bool):
        from snnc.bars import Bars

        return Bars(_log.debug) if progress else as_progress(None)
    return as_progress(progress)


compile_model = convert
"""What :func:`convert` was called before."""
