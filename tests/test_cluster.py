"""Work on the workers of a dask scheduler: the same bytes whatever happens to them, and nothing unpickled."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
pytest.importorskip("cryptography", reason="makes the certificates")

from snnc.cli import main
from snnc.errors import ClusterError, UsageError
from snnc.scale import dask_engine, dask_trust
from snnc.scale.fingerprint import fingerprint
from snnc.scale.here import Here
from snnc.scale.opening import open_workers
from snnc.scale.plain import packed
from snnc.scale.store import Store
from snnc.scale.tasks import Shared, Task, expectation, perform, read
from snnc.scale.workers import Workers
from snnc.sweep import plan
from snnc.sweep.results import lines
from snnc.sweep.running import Sweep
from tests import clusters, quadrants
from tests.clusters import Running
from tests.quadrants import Files

pytestmark = pytest.mark.filterwarnings("ignore:.*:ResourceWarning")  # sockets of dask that end with it


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with clusters.cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    found = quadrants.write(tmp_path_factory.mktemp("user"))
    (found.folder / "sweep.toml").write_text(
        'models = ["quadrants.onnx"]\npresets = ["fast"]\ntimesteps = [2, 4]\n'
        'calib = "calibration.npz"\ndata = ["test.npz"]\npreprocess = "preprocessing.json"\n',
        encoding="utf-8",
    )
    return found


def swept(files: Files, store: Path, workers: Workers) -> str:
    with patch("snnc.sweep.material.TASK_ROWS", 50), workers:
        values = plan.read_plan(files.folder / "sweep.toml")
        return lines(Sweep(plan.plan_of(values), Store.open(store), workers).run().records)


@pytest.fixture(scope="module")
def alone(files: Files) -> str:
    """What the sweep gives in one process."""
    return swept(files, files.folder / "alone", Workers(Here()))


def echoes(workers: Workers, count: int, size: int = 10) -> list[int]:
    tasks = (
        Task("describe", packed({"i": i}, {"a": np.full(size, i, np.uint8)}), label=f"task {i}")
        for i in range(count)
    )
    found = []
    for done in workers.results(tasks):
        assert (done.arrays["a"] == done.values["i"]).all()
        found.append(done.values["i"])
    return found


def test_tasks_come_back_in_order(running: Running) -> None:
    with open_workers(str(running.file)) as workers:
        assert workers.size == 2
        assert workers.fingerprint == fingerprint()
        assert echoes(workers, 20) == list(range(20))
        assert echoes(workers, 6, 100_000) == list(range(6))  # which go past the scheduler


def test_a_sweep_is_that_of_one_process(running: Running, files: Files, alone: str, tmp_path: Path) -> None:
    assert swept(files, tmp_path / "store", open_workers(str(running.file))) == alone


def test_workers_that_are_killed_change_nothing(files: Files, alone: str, tmp_path: Path) -> None:
    folder = tmp_path / "cluster"  # of its own: the tests behind it find all workers of the other
    folder.mkdir()
    with clusters.cluster(folder) as running:
        workers = open_workers(str(running.file))
        take = workers.take
        killed: list[int] = []

        def taken() -> list[tuple[int, bytes]]:
            found = take()
            if len(killed) < 2:
                running.kill()
                killed.append(1)
            return found

        with patch.object(workers, "take", taken):
            assert swept(files, tmp_path / "store", workers) == alone
        assert len(killed) == 2


def test_nothing_is_unpickled_here(running: Running, tmp_path: Path) -> None:
    for hostile in (clusters.give_a_trap, clusters.raise_a_trap):
        trap = tmp_path / hostile.__name__
        with (
            open_workers(str(running.file)) as workers,
            patch.object(dask_engine, "perform_on_worker", hostile),
        ):
            task = Task("describe", str(trap).encode())
            with pytest.raises(ClusterError) as raised:
                list(workers.results([task]))
        assert "\n" not in str(raised.value)
        assert not trap.with_name(f"{trap.name}.{os.getpid()}").exists()
        clusters.sprung(str(trap))  # which is how it would show
        assert trap.with_name(f"{trap.name}.{os.getpid()}").exists()


def test_what_tasks_share_goes_once(running: Running) -> None:
    loaded = []

    def load() -> bytes:
        loaded.append(1)
        return b"x" * 100_000

    shared = Shared(Shared.of(b"x" * 100_000).sha256, load)
    with open_workers(str(running.file)) as workers:
        list(workers.results(Task("describe", packed({"i": i}), (shared,)) for i in range(12)))
    assert loaded == [1]


def test_a_worker_of_another_version_is_refused(running: Running) -> None:
    other = {**fingerprint(), "numpy": "1.0"}
    with patch.object(dask_engine, "fingerprint", lambda: other), pytest.raises(ClusterError) as raised:
        open_workers(str(running.file))
    assert "has another numpy" in str(raised.value)
    assert "not 1.0" in str(raised.value)


def test_a_worker_of_another_cpu_is_refused_unless_all_are_alike(running: Running, tmp_path: Path) -> None:
    other = {**fingerprint(), "CPU class": "abacus"}
    with patch.object(dask_engine, "fingerprint", lambda: other):
        with pytest.raises(ClusterError, match="another CPU class"):
            open_workers(str(running.file))
        file = running.file.with_name("workers.toml")
        file.write_text(running.file.read_text() + 'cpu = "workers"\n', encoding="utf-8")
        with open_workers(str(file)) as workers:
            assert workers.fingerprint == fingerprint()


def test_a_worker_refuses_by_itself() -> None:
    other = expectation({**fingerprint(), "onnxruntime": "0.1"}, cpu=True)
    with pytest.raises(ClusterError, match="another onnxruntime"):
        read(perform("describe", other, packed({}), ()))
    assert read(perform("describe", expectation(fingerprint(), cpu=True), packed({}), ())).values


def test_certificates_of_nobody_are_refused(running: Running, tmp_path: Path) -> None:
    clusters.certificates(tmp_path)
    file = tmp_path / "cluster.toml"
    file.write_text(running.file.read_text(), encoding="utf-8")
    began = time.monotonic()
    with pytest.raises(ClusterError, match="cannot be reached") as raised:
        open_workers(str(file))
    assert time.monotonic() - began < 10
    assert "\n" not in str(raised.value)


def test_an_unreachable_scheduler_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    where = f"tcp://127.0.0.1:{clusters.free_port()}"
    words = ["sweep", "zoo:fashion-resnet", "-o", str(tmp_path / "out"), "--no-pictures", "--cluster", where]
    assert main(words) == 7
    assert dask_engine.TIMEOUT < 10
    assert time.monotonic() - began < 30  # on a busy machine
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert f"the scheduler {where} cannot be reached" in captured.err


def test_an_absent_extra_is_one_line() -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'distributed'", name="distributed")

    with patch.object(dask_trust, "import_module", absent), pytest.raises(UsageError) as raised:
        open_workers("tcp://127.0.0.1:1")
    assert "pip install distributed" in str(raised.value)


def test_a_worker_of_several_threads_is_refused() -> None:
    ours = fingerprint()
    with pytest.raises(ClusterError, match="has 4 threads: start workers with --nthreads 1"):
        dask_trust.require_fit("tcp://b:2", {"nthreads": 4}, ours, ours, cpu=True)
    dask_trust.require_fit("tcp://b:2", {"nthreads": 1}, ours, ours, cpu=True)


def test_an_open_dashboard_is_told() -> None:
    with socket.socket() as listening:
        listening.bind(("0.0.0.0", 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert dask_trust.open_dashboard("tls://127.0.0.1:8786", port) == ""
        with patch("socket.gethostbyname", lambda host: "0.0.0.0"):
            told = dask_trust.open_dashboard("tls://login1:8786", port)
    assert told.startswith(f"the dashboard of the scheduler is open to the network at http://login1:{port}")
    with patch("socket.gethostbyname", lambda host: "0.0.0.0"):
        assert dask_trust.open_dashboard("tls://login1:8786", port) == ""


def test_what_is_interrupted_is_cancelled(running: Running) -> None:
    cancelled: list[int] = []
    workers = open_workers(str(running.file))
    client: Any = vars(vars(workers)["_engine"])["_client"]
    cancel = client.cancel

    def watched(futures: list[Any], **more: Any) -> Any:
        cancelled.append(len(futures))
        return cancel(futures, **more)

    def interrupted() -> None:
        with workers:
            for i in range(6):
                workers.submit(Task("describe", packed({"i": i})))
            raise KeyboardInterrupt

    with patch.object(client, "cancel", watched), pytest.raises(KeyboardInterrupt):
        interrupted()
    assert cancelled == [6]


def test_a_scheduler_that_starts_again_is_found_again(files: Files, alone: str, tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    folder.mkdir()
    threads: list[threading.Thread] = []
    with clusters.cluster(folder) as running:

        def cut() -> None:
            clusters.ended(running)
            port = int(running.address.rpartition(":")[2])
            running.process = clusters.started(folder, port, 1).process

        workers = open_workers(str(running.file))
        take = workers.take

        def taken() -> list[tuple[int, bytes]]:
            found = take()
            if not threads:  # work is under way
                threads.append(threading.Thread(target=cut))
                threads[0].start()
            return found

        with patch.object(workers, "take", taken):
            found = swept(files, tmp_path / "store", workers)
        assert threads
        threads[0].join()
    assert found == alone
