"""One comparison at a time: a spiking network beside its source, in turn; its memory; its profile."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
from numpy.typing import NDArray

from benchmarks.speed import peers
from benchmarks.speed.subjects import subject
from snnc.analysis.costs import count
from snnc.analysis.node_costs import fan_outs
from snnc.analysis.speed import Timing, clock, interleaved
from snnc.backends.numba_cpu import NumbaSimulator
from snnc.ir.snn import Encode, SnnGraph, Weighted
from snnc.simulation.protocol import RecordOptions
from snnc.simulation.single_pass import counted, counted_input

ROOT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENTS = ROOT / "build" / "peers"
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
        mode: ``spikes``, ``counts``, or ``float32`` for the network that is not quantised.
    """

    network: str
    timesteps: int
    batch: int
    threads: int
    against: str = "onnxruntime"
    mode: str = "spikes"


def session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """Return a session that keeps to some threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # Threads that go on spinning after a run would take the core of whoever has the next turn.
    options.add_session_config_entry("session.force_spinning_stop", "1")
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
        # All sizes but that of the batch are known; symbolic inference would need SymPy.
        quant_pre_process(source, clean, skip_symbolic_shape=True)
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


def measured(setting: Setting) -> Row | None:
    """Make one comparison; ``None`` if a peer is not installed."""
    if setting.against != "onnxruntime":
        return compare_peer(setting)
    return compare_floats(setting) if setting.mode == "float32" else compare(setting)


def compare(setting: Setting) -> Row:
    """Time a subject beside its source in float32 and in int8, in turn."""
    found = subject(setting.network, setting.timesteps)
    x = found.rows(setting.batch)
    graph, timesteps = found.graph, setting.timesteps
    trace = NumbaSimulator(setting.threads).run(
        graph, found.encode(x), timesteps, RecordOptions(activity=True)
    )
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


def compare_floats(setting: Setting) -> Row:
    """Time a subject in float32 beside its source on a batch T times as large, in turn."""
    found = subject(setting.network, setting.timesteps, "float32")
    x = found.rows(setting.batch)
    simulator = NumbaSimulator(setting.threads)
    trace = simulator.run(found.graph, found.encode(x), setting.timesteps, RecordOptions(activity=True))
    costs = count(found.graph, trace.activity, len(x), setting.timesteps)
    folded = np.repeat(x, setting.timesteps, axis=0)
    contestants: dict[str, Callable[[], object]] = {
        "snn": lambda: simulator.run(found.graph, found.encode(x), setting.timesteps).outputs,
        "fp32": _runner(session(found.model, setting.threads), found.input_name, folded),
    }
    times = _interleaved(contestants, setting.threads)
    return {
        "density": round(costs.events_per_neuron_per_step, 4),
        "ratio": round(times["snn"].minimum / times["fp32"].minimum, 4),
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
    python = peers.installed(ENVIRONMENTS, setting.against)
    if python is None:
        return None
    found = subject(setting.network, setting.timesteps)
    x = found.rows(setting.batch)
    trace = NumbaSimulator(setting.threads).run(
        found.graph, found.encode(x), setting.timesteps, RecordOptions(activity=True)
    )
    simulator = NumbaSimulator(setting.threads, trace.density(found.graph.settle_steps))
    now = clock(setting.threads)
    own: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.npz"
        peers.write_job(onnx.load_from_string(found.model), job)
        with peers.running(
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
from benchmarks.speed import networks
from snnc.backends.numba_cpu import NumbaSimulator
pair = networks.make("resnet18", 0.15, 4)
graph, q = pair.graph, np.tile(pair.q, (128, 1, 1, 1))
del pair
simulator = NumbaSimulator(1)
simulator.run(graph, q, 32)
"""


def memory() -> Row:
    """Return the peak of the heaviest case in a process of its own, beside a bare interpreter's."""
    peaks = []
    for program in (PEAK, MEMORY + PEAK):
        command = [sys.executable, "-c", program, str(ROOT)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    return {"memory": HEAVIEST, "bare_mb": round(peaks[0] / 2**20), "peak_mb": round(peaks[1] / 2**20)}


def profile(network: str, timesteps: int) -> Row:
    """Return what each population of a subject takes, with its kernel and its share of the roof."""
    found = subject(network, timesteps)
    q = found.encode(found.rows(1))
    trace = NumbaSimulator(1).run(found.graph, q, timesteps, RecordOptions(activity=True))
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
    trace = NumbaSimulator(1).run(graph, q, timesteps, RecordOptions(trains=sources))
    found = {}
    for node in synapses:
        train = trace.trains[node.inputs[0]]
        events = np.count_nonzero(train, axis=(0, 1))
        encode = Encode(name="only", shape=train.shape[2:], scale=1.0)
        alone = SnnGraph(
            name="alone", nodes=(encode, node.with_(inputs=("only",))), outputs=(node.name,), timesteps=1
        )
        dense = int(node.weight[0].size) * int(np.prod(node.shape)) * len(train)
        found[node.name] = {"synops": int((events * fan_outs(alone)["only"]).sum()), "dense": dense}
    return found
