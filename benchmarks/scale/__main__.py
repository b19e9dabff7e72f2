"""What work on many workers costs, measured, and what it would reach on more of them, computed.

    python -m benchmarks.scale overhead      # time of an empty task, bytes of rows and networks: a minute
    python -m benchmarks.scale efficiency    # eval and sweep, 1 and 2 workers: `--seconds` for each run
    python -m benchmarks.scale kills         # 200 sweeps, of each a worker is killed: half an hour
    python -m benchmarks.scale memory        # memory of the client that calibrates on 1 GB: 5 minutes
    python -m benchmarks.scale growth        # the model, beside the two points that were measured
    python -m benchmarks.scale page          # docs/scale.md, from what was measured

Results are kept in `benchmarks/measured/scale.jsonl`, one line per measurement, with the load of the
machine while it was made: figures of time hold for an idle machine alone.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.common import digests
from benchmarks.scale import model, page
from snnc.errors import SnncError
from snnc.models import calibration_data, resolve, test_data
from snnc.remote.evaluation import Subject, parts_on
from snnc.remote.files import shared_files, told_of_source
from snnc.scale.here import Here
from snnc.scale.opening import open_workers
from snnc.scale.plain import packed
from snnc.scale.pool import LocalPool
from snnc.scale.store import Store
from snnc.scale.tasks import Task
from snnc.scale.workers import Lost, Workers
from snnc.sweep.plan import plan_of
from snnc.sweep.results import lines
from snnc.sweep.running import Sweep

ROOT = Path(__file__).resolve().parent.parent.parent
RECORD = ROOT / "benchmarks" / "measured" / "scale.jsonl"
PAGE = ROOT / "docs" / "scale.md"
NETWORK = "zoo:fashion-resnet"


def record(kind: str, **values: Any) -> None:
    """Keep a measurement, and show it."""
    load = [round(each, 2) for each in os.getloadavg()]
    found = {"kind": kind, **values, "load": load, "cores": os.cpu_count(), "sources": digests.compiler()}
    with RECORD.open("a", encoding="utf-8") as file:
        file.write(json.dumps(found, sort_keys=True) + "\n")
    click.echo(json.dumps(found, sort_keys=True))


@click.group()
def cli() -> None:
    """Measure work on workers."""


class Weighing(Here):
    """Does tasks in this process, and weighs what would be sent."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.sent = self.came = self.tasks = 0
        self.shared: dict[str, int] = {}

    def submit(self, number: int, task: Task) -> None:
        """Weigh what goes."""
        self.tasks += 1
        self.sent += len(task.arguments)
        for each in task.shared:
            self.shared.setdefault(each.sha256, len(each.load()))
        super().submit(number, task)

    def finished(self, timeout: float) -> list[tuple[int, bytes | Lost]]:
        """Weigh what comes."""
        found = super().finished(timeout)
        self.came += sum(len(data) for _, data in found if isinstance(data, bytes))
        return found


def converted(folder: Path) -> Path:
    """Convert the network of the zoo, and return the artefact."""
    path = folder / "network.snn.onnx"
    words = ["convert", NETWORK, "-T", "4", "--preset", "fast", "-o", str(path)]
    run(words)
    return path


def run(words: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """Run the command line in a process of its own, and return what it says."""
    command = [sys.executable, "-m", "snnc", *words]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        cwd=ROOT,
    )
    if done.returncode:
        raise click.ClickException(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def timed(jobs: Sequence[Sequence[str]]) -> float:
    """Return the seconds that commands take which run at the same time."""
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    began = time.perf_counter()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "snnc", *words],
            stdout=subprocess.DEVNULL,
            env={**os.environ, **one},
            cwd=ROOT,
        )
        for words in jobs
    ]
    if any(process.wait() for process in processes):
        raise click.ClickException("a command failed")
    return time.perf_counter() - began


@cli.command()
@click.option("--cluster", default="local:1", show_default=True, help="As for snnc.")
@click.option("--tasks", default=200, show_default=True)
def overhead(cluster: str, tasks: int) -> None:
    """Measure empty tasks, and weigh what an evaluation sends."""
    began = time.perf_counter()
    with open_workers(cluster) as workers:
        list(workers.results([Task("describe", packed({}))]))
        started = time.perf_counter() - began
        for size in (10, 1_000_000):
            began = time.perf_counter()
            data = np.zeros(size, np.uint8)
            count = tasks if size < 1000 else tasks // 10
            for _ in workers.results(Task("describe", packed({"i": i}, {"a": data})) for i in range(count)):
                pass
            each = (time.perf_counter() - began) / count
            record("overhead", cluster=cluster, bytes=size, seconds=each, start=started, workers=workers.size)
    from snnc.analysis.artefacts import evaluate_artefact
    from snnc.artefact import load
    from snnc.backends import load_simulator
    from snnc.progress import Silent
    from snnc.sources import locate, open_source

    with tempfile.TemporaryDirectory() as name:
        path = converted(Path(name))
        artefact, located = load(path), locate(NETWORK)
        x, y = test_data(resolve(NETWORK))
        engine = Weighing()
        told = told_of_source(NETWORK, artefact.preprocessing, None)
        subject = Subject(shared_files(path), 4, source=(shared_files(located.path), told))
        evaluate_artefact(
            artefact,
            x,
            y,
            simulator=load_simulator("numba", 1),
            source=open_source(lambda text: None, located, artefact.preprocessing, 1),
            parts=parts_on(Workers(engine), subject, x, None, Silent()),
        )
        record(
            "bytes",
            rows=len(x),
            row=int(x[0].nbytes),
            sent=engine.sent,
            came=engine.came,
            tasks=engine.tasks,
            shared=sum(engine.shared.values()),
            files=path.stat().st_size + located.path.stat().st_size,
        )


@cli.command()
@click.option("--seconds", default=60.0, show_default=True, help="Of work of one process, about.")
@click.option(
    "--cluster", "clusters", multiple=True, help="Dask schedulers with 1 and with 2 workers, beside."
)
@click.option("--rounds", default=3, show_default=True, help="Of which the fastest counts.")
@click.option("--only", type=click.Choice(["eval", "sweep"]), help="Measure one of both.")
def efficiency(seconds: float, clusters: tuple[str, ...], rounds: int, only: str | None) -> None:
    """Measure eval, and a sweep of 24 cells, in one process, in two, and with workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if only in (None, "eval"):
            evaluated(folder, seconds, clusters, rounds)
        if only in (None, "sweep"):
            swept(folder, seconds, rounds)


def evaluated(folder: Path, seconds: float, clusters: Sequence[str], rounds: int) -> None:
    """Measure eval."""
    path = converted(folder)
    x, y = test_data(resolve(NETWORK))

    def rows(count: int, file: str) -> str:
        where = folder / file
        np.savez(where, x=np.resize(x, (count, *x.shape[1:])), y=np.resize(y, count))
        return str(where)

    def command(data: str, *more: str) -> list[str]:
        return ["eval", str(path), "--data", data, "--against", "source", *more]

    probe = command(rows(1000, "probe.npz"), "--threads", "1")
    empty = timed([command(rows(1, "one.npz"), "--threads", "1")])
    each = max(1e-4, (timed([probe]) - empty) / 1000)
    count = max(1000, int(seconds / each) // 1000 * 1000)
    whole, half = rows(count, "whole.npz"), rows(count // 2, "half.npz")
    cases: dict[str, list[list[str]]] = {
        "one process": [command(whole, "--threads", "1")],
        "two processes": [command(half, "--threads", "1")] * 2,
        "local:1": [command(whole, "--cluster", "local:1")],
        "local:2": [command(whole, "--cluster", "local:2")],
        **{where: [command(whole, "--cluster", where)] for where in clusters},
    }
    for case, times in interleaved({case: partial(timed, jobs) for case, jobs in cases.items()}, rounds):
        record("eval", case=case, rows=count, seconds=min(times), all=times)


def interleaved(cases: Mapping[str, Callable[[], float]], rounds: int) -> Iterator[tuple[str, list[float]]]:
    """Yield the seconds of each case; every round runs all of them, so that other work meets all alike."""
    times: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case, run_case in cases.items():
            times[case].append(run_case())
    yield from times.items()


def swept(folder: Path, seconds: float, rounds: int) -> None:
    """Measure a sweep of 24 cells."""
    x, _ = calibration_data(resolve(NETWORK))
    np.savez(folder / "calibration.npz", x=x[:200])
    (folder / "preprocess.json").write_text(
        json.dumps(dict(resolve(NETWORK).preprocessing)), encoding="utf-8"
    )
    x, y = test_data(resolve(NETWORK))
    limit = max(100, min(len(x), int(len(x) * seconds / 120)))
    np.savez(folder / "test.npz", x=x[:limit], y=y[:limit])
    common = ["--calib", str(folder / "calibration.npz"), "--data", str(folder / "test.npz"), "--no-pictures"]
    presets = [word for name in ("fast", "balanced", "binary-only") for word in ("--preset", name)]
    # Half of the cells of each number of steps, so that two processes have equal work.
    halves = (["--set", "init-membrane.fraction=0.4"], ["--set", "init-membrane.fraction=0.5"])
    file = folder / "sweep.toml"
    file.write_text(
        f'models = ["{NETWORK}"]\npresets = ["fast", "balanced", "binary-only"]\ntimesteps = [1, 2, 3, 4]\n'
        f'calib = "calibration.npz"\ndata = ["test.npz"]\npreprocess = "preprocess.json"\n'
        "[[set]]\ninit-membrane.fraction = 0.4\n[[set]]\ninit-membrane.fraction = 0.5\n",
        encoding="utf-8",
    )
    number = iter(range(10**6))

    def whole(where: str) -> list[str]:
        return [
            "sweep",
            str(file),
            "-o",
            str(folder / f"out{next(number)}"),
            "--no-pictures",
            "--cluster",
            where,
        ]

    def part(half: Sequence[str]) -> list[str]:
        out = ["-o", str(folder / f"out{next(number)}"), "--cluster", "local:1", "-T", "1,2,3,4"]
        return ["sweep", str(folder / "half.toml"), *presets, *half, *out, *common]

    (folder / "half.toml").write_text(
        f'models = ["{NETWORK}"]\npreprocess = "preprocess.json"\n', encoding="utf-8"
    )
    cases: dict[str, Callable[[], float]] = {
        "two processes": lambda: timed([part(half) for half in halves]),
        "local:1": lambda: timed([whole("local:1")]),
        "local:2": lambda: timed([whole("local:2")]),
    }
    for case, times in interleaved(cases, rounds):
        record("sweep", case=case, cells=24, rows=limit, seconds=min(times), all=times)


@cli.command()
@click.option("--kills", "wanted", default=200, show_default=True, help="Sweep until so many were killed.")
@click.option("--seed", default=0, show_default=True)
def kills(wanted: int, seed: int) -> None:
    """Kill a random worker at a random time of every sweep, and compare the results."""
    sys.path.insert(0, str(ROOT))
    from tests import quadrants

    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        files = quadrants.write(Path(name))
        values = {
            "models": [str(files.model)],
            "presets": ["fast"],
            "timesteps": [2, 4, 8],
            "calib": str(files.calibration),
            "data": [str(files.test)],
            "preprocess": str(files.preprocessing),
        }
        expected = lines(
            Sweep(plan_of(values), Store.open(Path(name) / "alone"), Workers(Here())).run().records
        )
        same = killed = 0
        times: list[float] = []
        for number in itertools.count():
            if killed >= wanted:
                break
            pool = LocalPool(2)
            stop = threading.Event()

            def killing(pool: LocalPool = pool, stop: threading.Event = stop) -> None:
                nonlocal killed
                while not stop.wait(chance.uniform(0, 0.9 * statistics.median(times or [4.0]))):
                    if alive := pool.processes:
                        try:
                            os.kill(chance.choice(alive), 9)
                        except ProcessLookupError:
                            continue
                        killed += 1
                        return

            thread = threading.Thread(target=killing)
            began = time.perf_counter()
            thread.start()
            try:
                with Workers(pool) as workers:
                    store = Store.open(Path(name) / f"store{number}")
                    found = lines(Sweep(plan_of(values), store, workers).run().records)
            except SnncError as error:
                found = str(error)
            finally:
                stop.set()
                thread.join()
            times.append(time.perf_counter() - began)
            same += found == expected
            if found != expected:
                click.echo(f"sweep {number}: {found[:300]}", err=True)
        record("kills", sweeps=len(times), killed=killed, identical=same, seconds=sum(times))


@cli.command()
@click.option("--megabytes", "sizes", multiple=True, type=int, default=(256, 1024), show_default=True)
def memory(sizes: tuple[int, ...]) -> None:
    """Convert on calibration rows of an .npy file, and watch the memory of the client."""
    from benchmarks.scale.wide import write_network

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network = write_network(folder / "wide.onnx")
        for size in sizes:
            rows = write_rows(folder / f"rows{size}.npy", size)
            words = ["convert", str(network), "--calib", str(folder / f"rows{size}.npy"), "-T", "2"]
            words += ["--preset", "fast", "-o", str(folder / f"{size}.snn.onnx"), "--cluster", "local:1"]
            process = subprocess.Popen([sys.executable, "-m", "snnc", *words], cwd=ROOT)
            peaks = {"VmHWM": 0, "RssAnon": 0}
            while process.poll() is None:
                for key in peaks:
                    peaks[key] = max(peaks[key], status_of(process.pid, key))
                time.sleep(0.05)
            if process.returncode:
                raise click.ClickException("the conversion failed")
            record(
                "memory",
                megabytes=size,
                rows=rows,
                resident=peaks["VmHWM"] // 1024,
                anonymous=peaks["RssAnon"] // 1024,
            )


def status_of(pid: int, key: str) -> int:
    """Return a size of a process in kB; 0 where it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    found = re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) if found else 0


def write_rows(path: Path, megabytes: int) -> int:
    """Write random rows, and return how many."""
    shape = (3, 224, 224)
    count = megabytes * 2**20 // (4 * 3 * 224 * 224)
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (count, *shape))
    source = np.random.default_rng(0)
    for start in range(0, count, 16):
        rows[start : start + 16] = source.random((min(16, count - start), *shape), np.float32)
    rows.flush()
    return count


@cli.command()
def growth() -> None:
    """Compute what more workers would reach."""
    found = model.predictions(measurements())
    for line in found:
        click.echo(json.dumps(line, sort_keys=True))


@cli.command("page")
def write_page() -> None:
    """Print docs/scale.md."""
    PAGE.write_text(page.text(measurements()), encoding="utf-8")


def measurements() -> list[dict[str, Any]]:
    """Return what was measured."""
    if not RECORD.exists():
        return []
    return [json.loads(line) for line in RECORD.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    cli()
