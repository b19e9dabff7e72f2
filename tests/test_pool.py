"""Processes of this machine as workers: deaths, poisoned rows, files, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnc.cli import main
from snnc.data.shared_rows import SharedRows, rows_of_task
from snnc.errors import ClusterError, InputError, UsageError
from snnc.ir.batch import Batch
from snnc.scale import address, pool
from snnc.scale.address import Place
from snnc.scale.fingerprint import fingerprint
from snnc.scale.here import Here
from snnc.scale.plain import packed, unpacked
from snnc.scale.tasks import Task, read
from snnc.scale.workers import MOST_DEATHS, Lost, Workers
from snnc.sweep import plan
from tests import quadrants
from tests.quadrants import Files

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return quadrants.write(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def artefact(files: Files) -> Path:
    path = files.folder / "quadrants.snn.onnx"
    rows = ["--calib", str(files.calibration), "--preprocess", str(files.preprocessing)]
    words = ["convert", str(files.model), *rows, "-T", "4", "--preset", "fast", "-o", str(path)]
    assert main(words) == 0
    return path


def echo(i: int) -> Task:
    return Task("describe", packed({"i": i}, {"a": np.full(3, i)}), label=f"task {i}")


def numbers(workers: Workers, count: int) -> list[int]:
    return [done.values["i"] for done in workers.results(map(echo, range(count)))]


def test_processes_die_and_nothing_is_lost() -> None:
    found = pool.LocalPool(1)
    with Workers(found) as workers:
        results = workers.results(map(echo, range(6)))
        assert next(results).values["i"] == 0
        (process,) = found.processes
        os.kill(process, signal.SIGKILL)
        assert [done.values["i"] for done in results] == [1, 2, 3, 4, 5]
        assert found.processes != (process,)
        (process,) = found.processes
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


class Engine(Here):
    """Loses what it is told to lose."""

    def __init__(self, losses: Mapping[int, Sequence[Lost]]) -> None:
        super().__init__()
        self.losses = {number: list(each) for number, each in losses.items()}

    def finished(self, timeout: float) -> list[tuple[int, bytes | Lost]]:
        if self._waiting and self.losses.get(self._waiting[0][0]):
            number, _ = self._waiting.popleft()
            return [(number, self.losses[number].pop())]
        return super().finished(timeout)


@given(st.dictionaries(st.integers(0, 9), st.lists(st.sampled_from([Lost.DEATH, Lost.AWAY]), max_size=4)))
def test_what_is_lost_is_done_again(losses: dict[int, list[Lost]]) -> None:
    assert numbers(Workers(Engine(losses)), 10) == list(range(10))


def test_a_task_at_which_all_workers_end_is_named() -> None:
    with pytest.raises(ClusterError) as raised:
        numbers(Workers(Engine({2: [Lost.DEATH] * MOST_DEATHS})), 5)
    assert str(raised.value).startswith("task 2: worker after worker ended at this task")
    with pytest.raises(ClusterError, match="task 3"):
        numbers(Workers(Engine({3: [Lost.GIVEN_UP]})), 5)


def test_two_at_once_get_what_is_theirs() -> None:
    workers = Workers(Engine({1: [Lost.AWAY], 4: [Lost.AWAY]}))
    first, second = (workers.results(map(echo, range(start, start + 8))) for start in (0, 100))
    pairs = [(next(first).values["i"], next(second).values["i"]) for _ in range(8)]
    assert pairs == [(i, 100 + i) for i in range(8)]
    assert workers.waiting == 0


def test_no_more_is_made_than_there_is_room_for() -> None:
    made = []

    def tasks() -> Iterator[Task]:
        for i in range(50):
            made.append(i)
            yield echo(i)

    for taken, _ in enumerate(Workers(Here()).results(tasks()), 1):
        assert len(made) <= taken + 4


def test_an_error_of_a_task_is_that_of_one_process() -> None:
    absent = {"path": "/absent.npy", "start": 0, "stop": 1, "sha256": ""}
    with pytest.raises(ClusterError, match="a worker cannot read"):
        rows_of_task(absent, {})
    with pytest.raises(Exception, match="there is no task 'format-disk'"):
        list(Workers(Here()).results([Task("format-disk", packed({}))]))


def test_rows_by_path_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    np.save(path, np.arange(24.0).reshape(6, 4))
    mapped = np.load(path, mmap_mode="r")
    shared = SharedRows.of(mapped, path, reads_paths=True)
    values, arrays = shared.part(slice(2, 5))
    assert not arrays
    assert (rows_of_task(values, arrays) == mapped[2:5]).all()
    assert SharedRows.of(mapped, path, reads_paths=False).part(slice(2, 5))[1]
    np.save(path, np.zeros((6, 4)))
    with pytest.raises(ClusterError, match="holds other rows on a worker"):
        rows_of_task(values, arrays)


@given(st.integers(1, 5), st.integers(0, 4), st.booleans())
def test_rows_that_are_sent_come_back(count: int, start: int, several: bool) -> None:
    x = np.arange(count * 3, dtype=np.int16).reshape(count, 3)
    rows: Any = Batch({"a/b": x, "": x * 2}) if several else x
    found = rows_of_task(*unpacked(packed(*SharedRows(rows).part(slice(start, count)))))
    expected = rows[start:count]
    if several:
        assert list(found.arrays) == ["a/b", ""]
        assert all((found.arrays[name] == each).all() for name, each in expected.arrays.items())
    else:
        assert found.dtype == x.dtype
        assert (found == expected).all()


@given(st.binary(max_size=80))
def test_bytes_of_strangers_are_one_line(data: bytes) -> None:
    with pytest.raises(ClusterError) as raised:
        read(data)
    assert "\n" not in str(raised.value)


def test_pickles_in_bytes_are_refused() -> None:
    import io

    stream = io.BytesIO()
    np.savez(stream, json=np.array([object()], dtype=object), allow_pickle=True)
    with pytest.raises(ClusterError, match="not what a worker of snnc sends"):
        read(stream.getvalue())


def test_a_poisoned_row_is_named_as_without_a_cluster(
    artefact: Path, files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = quadrants.images(120, 3)
    poisoned = x.astype(np.float32)
    poisoned[77, 0, 0] = np.nan
    data = tmp_path / "poisoned.npz"
    np.savez(data, x=poisoned, y=y)
    told = []
    for more in ([], ["--cluster", "local:1"]):
        with patch("snnc.scale.opening.open_workers", lambda *_: Workers(Here())):
            assert main(["eval", str(artefact), "--data", str(data), *more]) == 5
        told.append(capsys.readouterr().err)
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour = 1", "unknown key 'colour'"),
        ("rows = 'send'", "has no `scheduler`"),
        ("scheduler = 3", "'scheduler' must be a string"),
        ("scheduler = 'tcp://a:1'\nrows = 'fax'", "must be one of send, path"),
        ("scheduler = 'tcp://a:1'\nwait = -1", "must be a number of seconds"),
        ("scheduler = 'tcp://a:1'\ndirect = 1", "must be true or false"),
        ("scheduler = 'tcp://a:1'\nca = 'ca.pem'", "is for tls://"),
        ("scheduler = 'tls://a:1'\nca = 'ca.pem'", "needs `certificate` beside `ca`"),
        ("scheduler = 'tls://a:1'\nca = 'ca.pem'\ncertificate = 'a.pem'", "does not exist"),
        ("scheduler = 'http://a:1'", "is no address of a scheduler"),
        ("scheduler = [", "is not TOML"),
    ],
)
def test_a_file_of_a_cluster_that_holds_something_else(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises((InputError, UsageError)) as raised:
        address.read_place(path)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_page_has_the_keys() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    assert address.table() in page, "python -m snnc.scale.address"
    assert plan.table() in page, "python -m snnc.sweep.plan table"
    assert Place("tcp://a:1").rows == "send"


def test_a_fingerprint_says_what_results_depend_on() -> None:
    assert {"snnc", "numpy", "onnxruntime", "CPU class"} <= set(fingerprint())


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_the_processes(files: Files, tmp_path: Path) -> None:
    asked = tmp_path / "sweep.toml"
    asked.write_text(
        f'models = ["{files.model}"]\npresets = ["fast"]\ntimesteps = {list(range(1, 40))}\n'
        f'calib = "{files.calibration}"\ndata = ["{files.test}"]\npreprocess = "{files.preprocessing}"\n',
        encoding="utf-8",
    )
    words = [sys.executable, "-m", "snnc", "sweep", str(asked), "-o", str(tmp_path / "out")]
    words += ["--cluster", "local:1"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    store = tmp_path / "out" / "store"
    for _ in range(600):
        if len(list(store.rglob("*"))) > 3:
            break
        time.sleep(0.1)
    children = [
        int(each) for each in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ]
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == f"error: interrupted; the same command continues from {tmp_path / 'out'}"
    assert "Traceback" not in err
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(Path(f"/proc/{child}").exists() for child in children):
        time.sleep(0.1)
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert not list(tmp_path.rglob("*.part"))
