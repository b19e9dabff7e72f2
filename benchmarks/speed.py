"""Time spiking networks beside their sources, in onnxruntime and in other simulators.

    python benchmarks/speed.py                          # the whole grid: some hours on a quiet machine
    python benchmarks/speed.py --quick                  # the rows of the targets, batch 1 and 64 at T = 4
    python benchmarks/speed.py --networks resnet18 --timesteps 4 --batches 1 --threads 1
    python benchmarks/speed.py --report docs/performance.md      # only write what was measured so far

Each measurement is one line of build/speed.jsonl and is not repeated as long as the simulator's sources and
the processor stay the same. Contestants take turns in rounds; what counts is the shortest round. ResNet-18,
VGG-16, a MobileNet and a ResNet-20 have random weights and thresholds set to a stated density: see
benchmarks/speed_networks.py. `zoo:fashion-resnet` and, where ../shared/models is there, ResNet-20 and -56 for
CIFAR-10 are trained networks, converted with the default preset, at their own density.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
import speed_limits
import speed_peers
from numpy.typing import NDArray
from speed_report import report
from speed_subjects import subject

from snnc.backends.numba_cpu import NumbaSimulator
from snnc.backends.numba_cpu.cpu import detect
from snnc.costs import count, fan_outs
from snnc.ir.snn import Encode, SnnGraph, Weighted
from snnc.speed import Timing, clock, interleaved
from snnc.spike_counts import counted, counted_input
from snnc.target import Record

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "build" / "speed.jsonl"
ENVIRONMENTS = ROOT / "build" / "peers"
TIMESTEPS = (1, 2, 4, 8, 16, 32)
BATCHES = (1, 64)
THREADS = (1, 2)
DENSITIES = {"resnet18": (0.15, 0.2, 0.3), "vgg16": (0.15,), "mobilenet": (0.15,), "resnet20": (0.15,)}
TRAINED = ("zoo:fashion-resnet", "chenyaofo_cifar10_resnet20", "akamaster_resnet56_legacy")
PEER_STEPS = 4
PEERS_ON = ("resnet18, 15%", "vgg16, 15%", "resnet20, 15%", "mobilenet, 15%")
"""Other simulators run all shapes at the same speed, whatever the density."""

MANY_LEVELS = "resnet18, M = 15"
QUANTISED_OPSET = 13
"""The first in which weights are quantised by channel."""

SECONDS = 2.0
"""Spent on one comparison, at about."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """One comparison.

    Attributes:
        network: name of the subject.
        timesteps: T.
        batch: images at once.
        threads: that each may use.
        against: ``onnxruntime`` or a peer.
        mode: ``spikes`` or ``counts``.
    """

    network: str
    timesteps: int
    batch: int
    threads: int
    against: str = "onnxruntime"
    mode: str = "spikes"


class Lines:
    """Measurements by what they depend on, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        """Read what was measured so far."""
        self.path = path
        self.rows: list[Row] = []
        if path.exists():
            self.rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def has(self, **key: object) -> bool:
        """Say whether there is a row with these values."""
        return any(all(row.get(name) == value for name, value in key.items()) for row in self.rows)

    def add(self, row: Row) -> None:
        """Append a row."""
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


@cache
def code() -> str:
    """Return a hash of the simulator's sources, by which a row is known to be of this version."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "backends" / "numba_cpu").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def machine() -> str:
    """Return what the figures were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        model = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model
        )
    return f"{model}, {detect().summary}"


def session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """Return a session that keeps to some threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class _Rows:
    """Calibration rows as onnxruntime's quantiser wants them."""

    def __init__(self, name: str, x: NDArray[np.float32]) -> None:
        self._left = iter([{name: x[k : k + 1]} for k in range(len(x))])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._left, None)


@cache
def quantised(name: str) -> bytes:
    """Return a subject's source as onnxruntime quantises it, to int8 in the form QDQ."""
    from onnxruntime.quantization import QuantFormat, QuantType, quant_pre_process, quantize_static

    found = subject(name)
    with tempfile.TemporaryDirectory() as folder:
        source, clean, target = (Path(folder) / part for part in ("f.onnx", "c.onnx", "q.onnx"))
        model = onnx.load_from_string(found.model)
        if max(entry.version for entry in model.opset_import if not entry.domain) < QUANTISED_OPSET:
            model = onnx.version_converter.convert_version(model, QUANTISED_OPSET)
        onnx.save(model, source)
        quant_pre_process(source, clean)
        x = found.rows(8)
        quantize_static(
            clean,
            target,
            _Rows(found.input_name, x),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return target.read_bytes()


def compare(setting: Setting) -> Row:
    """Time a subject beside its source in float32 and in int8, in turn."""
    found = subject(setting.network, setting.timesteps)
    x = found.rows(setting.batch)
    graph, timesteps = found.graph, setting.timesteps
    trace = NumbaSimulator(setting.threads).run(graph, found.encode(x), timesteps, Record(activity=True))
    costs = count(graph, trace.activity, len(x), timesteps)
    density = trace.density(graph.settle_steps)
    run_graph, steps = graph, timesteps
    if setting.mode == "counts":
        run_graph, steps, density = counted(graph, timesteps), 1, {}
    simulator = NumbaSimulator(setting.threads, density)

    def spiking() -> object:
        q = found.encode(x)
        if setting.mode == "counts":
            q = counted_input(q, timesteps)
        return simulator.run(run_graph, q, steps).outputs

    contestants: dict[str, Callable[[], object]] = {"snn": spiking}
    for name, model in (("fp32", found.model), ("int8", quantised(setting.network))):
        contestants[name] = _runner(session(model, setting.threads), found.input_name, x)
    times = _interleaved(contestants, setting.threads)
    return {
        "density": round(costs.events_per_neuron_per_step, 4),
        "synops": costs.synops,
        "giga_synops_per_second": round(costs.synops * len(x) / times["snn"].minimum / 1e9, 2),
        "ratio": round(times["snn"].minimum / times["fp32"].minimum, 4),
        "ratio_int8": round(times["snn"].minimum / times["int8"].minimum, 4),
        **{name: timing.as_dict(len(x)) for name, timing in times.items()},
    }


def _runner(made: onnxruntime.InferenceSession, name: str, x: NDArray[Any]) -> Callable[[], object]:
    return lambda: made.run(None, {name: x})


def _interleaved(contestants: dict[str, Callable[[], object]], threads: int) -> dict[str, Timing]:
    """Run everything once, then in turn for about :data:`SECONDS`."""
    start = perf_counter()
    for run in contestants.values():
        run()
    for run in contestants.values():
        run()
    once = (perf_counter() - start) / 2
    return interleaved(contestants, min(max(round(SECONDS / once), 5), 200), threads)


def compare_peer(setting: Setting) -> Row | None:
    """Time a subject beside a peer that runs the same shapes, in turn; ``None`` if it is not installed."""
    python = speed_peers.installed(ENVIRONMENTS, setting.against)
    if python is None:
        return None
    found = subject(setting.network, setting.timesteps)
    x = found.rows(setting.batch)
    trace = NumbaSimulator(setting.threads).run(
        found.graph, found.encode(x), setting.timesteps, Record(activity=True)
    )
    simulator = NumbaSimulator(setting.threads, trace.density(found.graph.settle_steps))
    now = clock(setting.threads)
    own: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.npz"
        speed_peers.write_job(onnx.load_from_string(found.model), job)
        with speed_peers.running(
            python,
            setting.against,
            job,
            timesteps=setting.timesteps,
            batch=setting.batch,
            threads=setting.threads,
        ) as once:
            simulator.run(found.graph, found.encode(x), setting.timesteps)
            until = perf_counter() + SECONDS
            while perf_counter() < until or len(own) < 5:
                theirs.append(once())
                start = now()
                simulator.run(found.graph, found.encode(x), setting.timesteps)
                own.append(now() - start)
    return {
        "times_faster": round(min(theirs) / min(own), 2),
        "snn": Timing(tuple(own)).as_dict(setting.batch),
        "peer": Timing(tuple(theirs)).as_dict(setting.batch),
        "density": round(float(np.mean(list(trace.density().values()))), 4),
    }


HEAVIEST = "ResNet-18, T = 32, batch 256"
PEAK = """
from pathlib import Path
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) * 1024)
"""
"""What getrusage says would begin with the memory of the process that started this one."""

MEMORY = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import speed_networks
from snnc.backends.numba_cpu import NumbaSimulator
pair = speed_networks.make("resnet18", 0.15, 4)
graph, q = pair.graph, np.tile(pair.q, (128, 1, 1, 1))
del pair
simulator = NumbaSimulator(1)
simulator.run(graph, q, 32)
"""


def memory() -> Row:
    """Return the peak of the heaviest case in a process of its own, beside a bare interpreter's."""
    peaks = []
    for program in (PEAK, MEMORY + PEAK):
        command = [sys.executable, "-c", program, str(Path(__file__).parent)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    return {"memory": HEAVIEST, "bare_mb": round(peaks[0] / 2**20), "peak_mb": round(peaks[1] / 2**20)}


def profile(network: str, timesteps: int) -> Row:
    """Return what each population of a subject takes, with its kernel and its share of the roof."""
    found = subject(network, timesteps)
    q = found.encode(found.rows(1))
    trace = NumbaSimulator(1).run(found.graph, q, timesteps, Record(activity=True))
    density = trace.density(found.graph.settle_steps)
    simulator = NumbaSimulator(1, density)
    seconds = simulator.profile(found.graph, q, timesteps, rounds=20)
    plan = simulator.plan(found.graph, timesteps, 1).as_dict()
    return {
        "profile": network,
        "timesteps": timesteps,
        "seconds": seconds,
        "plan": plan,
        "work": work(found.graph, q, timesteps),
    }


def work(graph: SnnGraph, q: NDArray[np.int32], timesteps: int) -> dict[str, dict[str, int]]:
    """Return for each synapse the events that arrive times their fan-out, and what a dense one multiplies."""
    synapses = graph.of_type(Weighted)
    sources = tuple(dict.fromkeys(node.inputs[0] for node in synapses))
    trace = NumbaSimulator(1).run(graph, q, timesteps, Record(trains=sources))
    found = {}
    for node in synapses:
        train = trace.trains[node.inputs[0]]
        events = np.count_nonzero(train, axis=(0, 1))
        encode = Encode(name="only", shape=train.shape[2:], scale=1.0)
        alone = SnnGraph(
            name="alone", nodes=(encode, node.with_(inputs=("only",))), output=node.name, timesteps=1
        )
        dense = int(node.weight[0].size) * int(np.prod(node.shape)) * len(train)
        found[node.name] = {"synops": int((events * fan_outs(alone)["only"]).sum()), "dense": dense}
    return found


def settings(
    networks: tuple[str, ...], timesteps: tuple[int, ...], batches: tuple[int, ...], threads: tuple[int, ...]
) -> Iterator[Setting]:
    """Yield the grid, what is compared with onnxruntime first."""
    for network in networks:
        for T in timesteps:
            for batch in batches:
                for n in threads:
                    yield Setting(network, T, batch, n)
                    if network.endswith("graded"):
                        yield Setting(network, T, batch, n, mode="counts")
    for network in networks:
        if network in PEERS_ON:
            for peer in speed_peers.PEERS:
                for batch in batches:
                    yield Setting(network, PEER_STEPS, batch, 1, peer)


def of_targets(setting: Setting) -> bool:
    """Say whether a row is needed to judge the targets."""
    if setting.against != "onnxruntime":
        return setting.batch == 1 and setting.network in PEERS_ON[:3]
    if setting.timesteps == PEER_STEPS:
        return True
    return setting.timesteps < 16 and setting.batch == 1 and setting.threads == 1


def numbers(text: str) -> tuple[int, ...]:
    """Read numbers separated by commas."""
    return tuple(map(int, text.split(",")))


@click.command()
@click.option("--networks", default="", help="Names separated by semicolons; all by default.")
@click.option("--timesteps", default=",".join(map(str, TIMESTEPS)), show_default=True)
@click.option("--batches", default=",".join(map(str, BATCHES)), show_default=True)
@click.option("--threads", default=",".join(map(str, THREADS)), show_default=True)
@click.option("--quick", is_flag=True, help="Only the rows of the targets.")
@click.option("--peers/--no-peers", default=True, help="Whether to time other simulators, too.")
@click.option("--report", "page", type=click.Path(path_type=Path), help="Only write this page.")
def main(
    networks: str, timesteps: str, batches: str, threads: str, quick: bool, peers: bool, page: Path | None
) -> None:
    """Measure what is missing, and write docs/performance.md."""
    lines = Lines(LINES)
    known = {"code": code(), "machine": machine()}
    if page is not None:
        report(lines.rows, page)
        return
    shapes = tuple(f"{name}, {d:.0%}" for name, densities in DENSITIES.items() for d in densities)
    chosen = tuple(part.strip() for part in networks.split(";") if part.strip())
    chosen = chosen or (*shapes, MANY_LEVELS, f"{MANY_LEVELS}, graded", *TRAINED)
    grid = [
        setting
        for setting in settings(chosen, numbers(timesteps), numbers(batches), numbers(threads))
        if (not quick or of_targets(setting)) and (peers or setting.against == "onnxruntime")
    ]
    if not lines.has(limits=True, **known):
        lines.add({**known, "limits": True, **asdict(speed_limits.measure())})
    for number, setting in enumerate(grid):
        key = {**known, **asdict(setting)}
        if lines.has(**key):
            continue
        row = compare(setting) if setting.against == "onnxruntime" else compare_peer(setting)
        if row is None:
            click.echo(
                f"{setting.against} is not installed: benchmarks/peers/setup.sh {setting.against}", err=True
            )
            continue
        lines.add({**key, **row})
        told = row.get("ratio", row.get("times_faster"))
        click.echo(f"{number + 1}/{len(grid)} {setting}: {told} at density {row['density']:.1%}", err=True)
    for network in chosen:
        if not lines.has(profile=network, timesteps=4, **known):
            lines.add({**known, **profile(network, 4)})
    if not lines.has(memory=HEAVIEST, **known):
        lines.add({**known, **memory()})
    report(lines.rows, ROOT / "docs" / "performance.md")


if __name__ == "__main__":
    main()
