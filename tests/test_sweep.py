"""`snnc sweep`: what it measures is what `eval` measures, and it goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from snnc.analysis.neurobench import footprint
from snnc.artefact import load
from snnc.cli import main
from snnc.errors import ClusterError, InputError
from snnc.remote import evaluation
from snnc.scale import tasks
from snnc.scale.here import Here
from snnc.scale.plain import packed
from snnc.scale.store import Store
from snnc.scale.workers import Workers
from snnc.sweep import plan
from snnc.sweep.material import Materials
from snnc.sweep.results import lines, page, subjects, write
from snnc.sweep.running import Outcome, Sweep
from tests import quadrants
from tests.quadrants import Files

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    found = quadrants.write(tmp_path_factory.mktemp("user"))
    (found.folder / "sweep.toml").write_text(
        'models = ["quadrants.onnx"]\npresets = ["fast", "balanced"]\ntimesteps = [2, 4]\n'
        'calib = "calibration.npz"\ndata = ["test.npz"]\npreprocess = "preprocessing.json"\n',
        encoding="utf-8",
    )
    return found


@pytest.fixture(scope="module", autouse=True)
def small_tasks() -> Iterator[None]:
    """Cut the rows of the tests into several tasks."""
    with patch("snnc.sweep.material.TASK_ROWS", 50):
        yield


class Counting(Here):
    """Counts what it does, and may be asked to stop."""

    def __init__(self, stop: int = 10**9) -> None:
        super().__init__()
        self.names: list[str] = []
        self.stop = stop

    def submit(self, number: int, task: tasks.Task) -> None:
        super().submit(number, task)

    def finished(self, timeout: float) -> Any:
        if len(self.names) >= self.stop:
            raise KeyboardInterrupt
        self.names += [task.name for _, task in list(self._waiting)[:1]]
        return super().finished(timeout)


def swept(
    path: Path,
    folder: Path,
    engine: Here | None = None,
    change: Callable[[dict[str, Any]], Any] = lambda v: v,
) -> Outcome:
    values = plan.read_plan(path)
    change(values)
    with Workers(engine or Here()) as workers:
        return Sweep(plan.plan_of(values), Store.open(folder), workers).run()


@pytest.fixture(scope="module")
def whole(files: Files) -> tuple[Outcome, list[str], Path]:
    """A sweep of four cells, what was done for it, and its store."""
    engine = Counting()
    store = files.folder / "whole"
    return swept(files.folder / "sweep.toml", store, engine), engine.names, store


def test_a_cell_is_what_convert_and_eval_give(
    whole: tuple[Outcome, list[str], Path],
    files: Files,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcome, names, _ = whole
    assert outcome.left == 0
    assert [record["cell"] for record in outcome.records] == [
        "fast, T = 2",
        "fast, T = 4",
        "balanced, T = 2",
        "balanced, T = 4",
    ]
    # Four conversions, three tasks of 50 rows for each, and the source's own once.
    assert {name: names.count(name) for name in set(names)} == {"convert": 4, "evaluate": 12, "answers": 3}
    path = tmp_path / "quadrants.snn.onnx"
    rows = ["--calib", str(files.calibration), "--preprocess", str(files.preprocessing)]
    assert main(["convert", str(files.model), *rows, "-T", "2", "--preset", "fast", "-o", str(path)]) == 0
    capsys.readouterr()
    assert main(["eval", str(path), "--data", str(files.test), "--against", "source", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    del expected["host"]
    record = outcome.records[0]
    assert record["measured"] == expected
    assert record["points_lost"] == pytest.approx(100 * record["measured"]["drop"])
    assert record["picojoules"] > 0.1 * record["measured"]["acs"]
    assert record["footprint"] == footprint(load(path).graph, record["measured"]["neurons"])


def test_nothing_is_measured_twice(whole: tuple[Outcome, list[str], Path], files: Files) -> None:
    outcome, _, store = whole
    engine = Counting()
    again = swept(files.folder / "sweep.toml", store, engine)
    assert engine.names == []
    assert again.was_there == 4
    assert lines(again.records) == lines(outcome.records)


def test_what_is_added_is_all_that_is_measured(
    whole: tuple[Outcome, list[str], Path], files: Files, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(whole[2], store)
    engine = Counting()
    found = swept(files.folder / "sweep.toml", store, engine, lambda v: v.update(timesteps=[2, 4, 8]))
    assert sorted(engine.names) == ["convert"] * 2 + ["evaluate"] * 6
    assert len(found.records) == 6
    assert lines(found.records[:2]) == lines(whole[0].records[:2])


@pytest.mark.parametrize("stop", [1, 7, 15])
def test_an_interrupted_sweep_goes_on(
    stop: int, whole: tuple[Outcome, list[str], Path], files: Files, tmp_path: Path
) -> None:
    first = Counting(stop)
    with pytest.raises(KeyboardInterrupt):
        swept(files.folder / "sweep.toml", tmp_path / "store", first)
    second = Counting()
    found = swept(files.folder / "sweep.toml", tmp_path / "store", second)
    assert len(first.names) == stop
    assert len(first.names) + len(second.names) == len(whole[1])
    assert lines(found.records) == lines(whole[0].records)


def test_a_damaged_result_is_measured_again(
    whole: tuple[Outcome, list[str], Path], files: Files, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(whole[2], store)
    for path in store.rglob("*"):
        if path.is_file() and path.name != "format":
            path.write_bytes(path.read_bytes()[:-3])
    engine = Counting()
    found = swept(files.folder / "sweep.toml", store, engine)
    assert sorted(engine.names) == sorted(whole[1])
    assert lines(found.records) == lines(whole[0].records)


def test_a_cell_that_fails_keeps_its_error(files: Files, tmp_path: Path) -> None:
    def unusual(values: dict[str, Any]) -> None:
        values.update(presets=["exact"], timesteps=[2])  # for quantised networks, and this is none

    found = swept(files.folder / "sweep.toml", tmp_path / "store", None, unusual)
    assert found.records[0]["error"]["kind"] == "UnsupportedModelError"
    assert "relu" in found.records[0]["error"]["message"]
    assert "failed" in page(found, [])
    engine = Counting()
    again = swept(files.folder / "sweep.toml", tmp_path / "store", engine, unusual)
    assert engine.names == []
    assert again.records == found.records


def test_a_task_that_is_given_up_fails_its_cell_alone(files: Files, tmp_path: Path) -> None:
    class Deadly(Counting):
        """At one conversion every worker ends."""

        def finished(self, timeout: float) -> Any:
            if self._waiting and b'"timesteps": 4' in self._waiting[0][1].arguments:
                number, task = self._waiting.popleft()
                if task.name == "convert":
                    return [(number, evaluation_lost)]
                self._waiting.appendleft((number, task))
            return super().finished(timeout)

    from snnc.scale.workers import Lost

    evaluation_lost = Lost.DEATH
    change: Callable[[dict[str, Any]], Any] = lambda v: v.update(presets=["fast"])  # noqa: E731
    found = swept(files.folder / "sweep.toml", tmp_path / "store", Deadly(), change)
    good, bad = found.records
    assert good["error"] is None
    assert bad["error"]["kind"] == "ClusterError"
    assert "worker after worker" in bad["error"]["message"]
    # Another try may meet better workers: it is not kept as what this cell comes to.
    again = swept(files.folder / "sweep.toml", tmp_path / "store", None, change)
    assert [record["error"] for record in again.records] == [None, None]


def test_what_is_wrong_with_a_worker_is_no_result(files: Files, tmp_path: Path) -> None:
    class Babbling(Counting):
        """Its conversions come back cut short."""

        def finished(self, timeout: float) -> Any:
            return [(number, data[:-9]) for number, data in super().finished(timeout)]

    change: Callable[[dict[str, Any]], Any] = lambda v: v.update(presets=["fast"], timesteps=[2])  # noqa: E731
    found = swept(files.folder / "sweep.toml", tmp_path / "store", Babbling(), change)
    assert found.records[0]["error"]["kind"] == "ClusterError"
    again = swept(files.folder / "sweep.toml", tmp_path / "store", None, change)
    assert again.records[0]["error"] is None


def test_rows_that_change_during_a_sweep_are_refused(files: Files, tmp_path: Path) -> None:
    calibration = tmp_path / "rows.npy"
    np.save(calibration, np.load(files.calibration)["x"])

    class Changing(Counting):
        """Somebody writes into the rows before they are sent."""

        def submit(self, number: int, task: tasks.Task) -> None:
            np.lib.format.open_memmap(calibration, "r+")[:] = 0
            super().submit(number, task)

    def change(values: dict[str, Any]) -> None:
        values.update(calib=str(calibration), presets=["fast"], timesteps=[2])

    with patch("snnc.data.stored.IN_MEMORY", 0), pytest.raises(InputError, match="has changed during"):
        swept(files.folder / "sweep.toml", tmp_path / "store", Changing(), change)


def test_a_network_that_changes_during_a_sweep_is_refused(files: Files, tmp_path: Path) -> None:
    model = Path(shutil.copy(files.model, tmp_path / "quadrants.onnx"))
    given = plan.plan_of({"models": [str(model)], "calib": str(files.calibration), "data": [str(files.test)]})
    ready = Materials(given, reads_paths=True).network(given.networks[0])
    model.write_bytes(model.read_bytes() + b"\x92\x03\x01x")  # an unknown field: it can be read
    with pytest.raises(InputError, match="has changed during the sweep"):
        _ = ready.files


def test_networks_of_other_rows_are_told_apart() -> None:
    common: dict[str, Any] = {"model": "a.onnx", "data": "test.npz", "preprocessing": None}
    records = [{**common, "calibration": name} for name in ("one.npz", "two.npz")]
    assert list(subjects(records)) == [
        "a.onnx on test.npz, calibrated with one.npz",
        "a.onnx on test.npz, calibrated with two.npz",
    ]
    assert list(subjects(records[:1])) == ["a.onnx on test.npz"]
    records = [{**records[0], "preprocessing": {"divide": by}} for by in (1.0, 255.0)]
    assert len(subjects(records)) == 2


def test_older_pictures_go(tmp_path: Path) -> None:
    for name in ("front.svg", "front-2.svg", "frontal.svg"):
        (tmp_path / name).write_text("old", encoding="utf-8")
    files = write(tmp_path, Outcome((), 0, 0.0), None)
    assert sorted(tmp_path.iterdir()) == sorted([*files, tmp_path / "frontal.svg"])


def test_the_verb(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with patch("snnc.scale.opening.open_workers", lambda *_: Workers(Here())):
        words = ["sweep", str(files.folder / "sweep.toml"), "--preset", "fast", "-o", str(tmp_path / "out")]
        assert main([*words, "--budget", "0.0000001", "--json"]) == 0
        late = json.loads(capsys.readouterr().out)
        assert late["left"] == 2
        assert main(words) == 0
    captured = capsys.readouterr()
    assert "2 cells: 2 measured, 0 failed." in captured.out
    found = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [record["timesteps"] for record in found] == [2, 4]
    assert "<svg" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "front.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_the_schema_is_that_of_the_docs() -> None:
    path = ROOT / "docs" / "sweep.schema.json"
    assert path.read_text(encoding="utf-8") == json.dumps(plan.schema(), indent=2) + "\n", (
        f"run: python -m snnc.sweep.plan schema > {path}"
    )
    Draft202012Validator.check_schema(plan.schema())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour = 3", "unknown key 'colour'"),
        ("models = []", "'models' is empty"),
        ("models = 'a.onnx'", "'models' must be a list"),
        ("timesteps = [0]", "'timesteps' holds what must be at least 1, not 0"),
        ("timesteps = [true]", "must be a whole number"),
        ("limit = true", "'limit' must be a whole number"),
        ("backend = 'gpu'", "must be one of numba, onnx, reference"),
        ("[[network]]\ncalib = 'a'", "network 1: has no `model`"),
        ("[[network]]\nmodel = 'a'\ncolour = 'b'", "unknown key 'colour'"),
        ("[[set]]\nclip-activations = 3", "needs a table for the pass 'clip-activations'"),
        ("models = [", "is not TOML"),
    ],
)
def test_a_file_that_holds_something_else(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="the sweep") as raised:
        plan.read_plan(path)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["a.toml", "b.onnx"], 2, "name one FILE.toml"),
        ([], 2, "a sweep needs networks"),
        (["zoo:fashion-resnet", "--preset", "slow"], 2, "unknown preset 'slow'"),
        (["zoo:fashion-resnet", "-T", "1,1"], 2, "names 1 twice"),
        (["zoo:fashion-resnet", "-T", "a"], 2, "write numbers of steps"),
        (["absent.toml"], 5, "cannot be read"),
        (["zoo:fashion-resnet", "--cluster", "local:0"], 2, "write local:N"),
        (["zoo:fashion-resnet", "--cluster", "elsewhere"], 2, "write local, local:N, tcp://"),
        (["zoo:fashion-resnet", "--cluster", "absent.toml"], 5, "the cluster absent.toml cannot be read"),
    ],
)
def test_what_is_refused_at_once(
    words: list[str], code: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *words, "-o", str(tmp_path / "out")]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert says in captured.err


def test_a_store_takes_no_folder_of_others(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="holds other files"):
        Store.open(tmp_path)


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.put("ab" * 32, b"whole")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with patch("os.fsync", full), pytest.raises(InputError, match="No space left"):
        store.put("ab" * 32, b"other")
    assert store.get("ab" * 32) == b"whole"
    assert [path.name for path in (tmp_path / "store" / "ab").iterdir()] == ["ab" * 31]


def test_results_of_strangers_are_refused() -> None:
    for data in (b"", b"PK", packed({}), packed({"found": 3})):
        with pytest.raises(ClusterError):
            tasks.read(data)
    assert evaluation.TASK_ROWS % 250 == 0  # every batch is that of one process
