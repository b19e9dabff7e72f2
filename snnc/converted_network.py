"""A converted network and its verbs: evaluate, report, plot, adapt, save, deploy."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from snnc import __version__, adaptation, compiler, notebook
from snnc.adaptation.buffer import ReplayBuffer, read_buffer
from snnc.analysis.artefacts import calibrated_on, evaluate_artefact, unlike_calibration
from snnc.analysis.evaluation import Evaluation
from snnc.arguments import as_names, as_shown, labelled_rows, whole
from snnc.artefact import Artefact
from snnc.artefact import save as save_artefact
from snnc.artefact.adaptations import Edit
from snnc.backends import load_backend, load_simulator
from snnc.backends.deployment import deploy as deploy_artefact
from snnc.backends.torch_module import to_spikingjelly, to_torch
from snnc.diagnostics import Diagnostic
from snnc.errors import InputError
from snnc.ir.batch import Rows
from snnc.ir.snn import IntegrateFire
from snnc.metrics.task import Task, as_task
from snnc.progress import Callback, Progress
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


@dataclass(frozen=True, eq=False, repr=False)
class ConvertedNetwork(Artefact):
    """A spiking network, and what is done with it: what :func:`snnc.convert` and :func:`snnc.load` return.

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

    @classmethod
    def of(cls, artefact: Artefact, **more: Any) -> Self:
        """Return an artefact with what the interface remembers beside it: the attributes of this class."""
        return cls(**{item.name: getattr(artefact, item.name) for item in fields(Artefact)}, **more)

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
                    source = open_source(
                        _log.debug,
                        located,
                        self.preprocessing,
                        threads,
                        self.selection,
                        accumulated=self.accumulates,
                    )
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
                progress=as_shown(progress),
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
                progress=as_shown(progress),
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
        return draw(self, x, y, plot, load_simulator("numba", threads), as_shown(progress))

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
            progress=as_shown(progress),
        )
        for note in found.notes:
            _log.warning("%s", note)
        return AdaptedNetwork.of(found.artefact, source=self.source, edit=found.edit, buffer=found.buffer)

    def revoke(self, edit: str) -> ConvertedNetwork:
        """Return the network without an edit: byte for byte what it would be if it had never learned it.

        Args:
            edit: its ID, or the first digits.

        Raises:
            UsageError: there is no such edit, or gradients have learned on top of it.
        """
        found, _ = adaptation.revoke(self, edit)
        return ConvertedNetwork.of(found, source=self.source)

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
        """Return it as a ``torch.nn.Module`` with its exact semantics; see :func:`snnc.to_torch`."""
        return to_torch(self)

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
