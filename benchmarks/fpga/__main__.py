"""``python -m benchmarks.fpga``: the core on many networks, on many images, and at many densities.

``random`` runs networks made from seeds on one core in Verilator, ``images`` an artefact on rows of a file,
``density`` an artefact whose image is more and more silent. All compare every count, potential and score
with the reference. ``lanes`` estimates designs of other widths, ``toggles`` counts how often nets change,
``microcontroller`` the instructions of the same network in C. ``convert`` writes an artefact of the corpus or
the zoo for them, ``perceptron`` a network that is small enough for an iCE40 UP5K.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.common import corpus_data
from benchmarks.common.tables import table
from benchmarks.fpga import microcontroller, networks, toggles
from benchmarks.fpga.prices import priced
from snnc.artefact import load
from snnc.backends.fpga import files, simulate
from snnc.backends.fpga.additions import TooFew
from snnc.backends.fpga.layout import Design
from snnc.backends.fpga.lowering import Fetching, design
from snnc.backends.fpga.mapper import LANES, Designs, Mapped, estimated, use
from snnc.backends.fpga.parts import device
from snnc.backends.fpga.units import Units, units
from snnc.errors import UsageError
from snnc.ir.batch import Rows
from snnc.ir.neuron import Schedule
from snnc.ir.snn import IntegrateFire, SnnGraph
from snnc.models import calibration_data, resolve, test_data
from snnc.report.energy import MODELS, CostModel, read_model
from snnc.simulation.protocol import RecordOptions, Trace
from snnc.simulation.reference import ReferenceSimulator
from tests.fpga_networks import FETCHED, ROOM
from tests.spiking_graphs import random_graph, random_inputs, with_step_functions


def write(made: Design, folder: Path, *, sizes: bool, stimulus: int = 0) -> None:
    """Write the images of a design, and its sizes if the core is to be compiled for it."""
    for name, text in files.texts(made, stimulus).items():
        if sizes or name != files.SIZES:
            (folder / name).write_text(text, encoding="ascii")


def compared(graph: SnnGraph, q: Rows, found: simulate.Simulated) -> Trace:
    """Compare a simulation with the reference.

    Raises:
        SystemExit: anything differs.
    """
    trace = ReferenceSimulator().run(graph, q, graph.timesteps, RecordOptions(states=True, activity=True))
    scores = np.concatenate([y.reshape(len(y), -1) for y in trace.outputs.values()], axis=1)
    wrong = [] if np.array_equal(scores, found.scores) else ["scores"]
    for node in graph.of_type(IntegrateFire):
        rows = len(scores)
        for what, got, wanted in (
            ("counts", found.counts, trace.counts),
            ("potentials", found.potentials, trace.potentials),
        ):
            if not np.array_equal(got[node.name].reshape(rows, -1), wanted[node.name].reshape(rows, -1)):
                wrong.append(f"{what} of {node.name}")
    if wrong:
        raise SystemExit(f"{graph.name}: {', '.join(wrong)} differ from the reference")
    return trace


def drawn(seed: int) -> SnnGraph:
    """Return a random network; all settings follow from the seed."""
    layerwise = seed % 5 == 4
    graph = random_graph(
        seed,
        schedule=Schedule.LAYERWISE if layerwise else Schedule.SYNCHRONOUS,
        settle_steps=0 if layerwise else seed % 3,
        negative=seed % 2 == 0,
        flat=seed % 7 == 3,
        several=seed % 6 == 5,
        routed=seed % 9 == 8,
    )
    return with_step_functions(graph, seed) if seed % 8 == 7 else graph


def random(count: int, *, external: bool) -> None:
    """Run so many random networks that the core takes, with pauses on the streams and resets in an image.

    Args:
        count: of networks.
        external: whether weights are fetched from an external memory; what the chip keeps of them follows
            from the seed.
    """
    refused: Counter[str] = Counter()
    room = FETCHED if external else ROOM
    ran = seed = 0
    with tempfile.TemporaryDirectory(prefix="snnc-") as name:
        folder = Path(name)
        (folder / files.SIZES).write_text(files.header(room, 65_536), encoding="ascii")
        command = simulate.build("verilator", folder)
        while ran < count:
            graph = drawn(seed)
            found = units(graph)
            seed += 1
            if found.problems:
                refused[found.problems[0].reason] += 1
                continue
            fetching = Fetching((48, 100, 512)[seed % 3], at_once=seed % 2 == 0) if external else None
            try:
                made = design(found, room.lanes, room, fetching=fetching)
            except TooFew:
                refused["more weights of one channel than the chip keeps"] += 1
                continue
            except UsageError:
                refused["more weights than this external memory holds"] += 1
                continue
            q = random_inputs(graph, 3, seed)
            write(made, folder, sizes=False)
            arguments = [f"+stall={seed % 3}", *([f"+reset={500 + seed}"] if seed % 4 == 1 else [])]
            stimulus = files.stream(q, [node.name for node in graph.encoders])
            compared(graph, q, simulate.simulate(command, made, stimulus, folder, arguments=arguments))
            ran += 1
    print(f"{ran} networks bit-exact: every count, potential and score of 3 images each")
    for reason, times in refused.most_common():
        print(f"{times} refused: {reason}")


def images(
    path: Path, rows: Path, count: int, profile: str, model: CostModel, simulator: str = "verilator"
) -> None:
    """Run an artefact on rows of a file, and print cycles and activity."""
    artefact = load(path)
    graph = artefact.graph
    found, mapped = _fitted(graph, profile)
    with np.load(rows) as arrays:
        q = artefact.encode(arrays["x"][:count])
    got, seconds = _simulated(graph, mapped.design, q, simulator)
    trace = compared(graph, q, got)
    own = estimated(found, mapped.design, trace.density(graph.settle_steps)).cycles
    mean = {name: float(values.mean()) for name, values in got.activity.items()}
    clock = device(profile).clock_mhz * 1e6
    lines = [[name.replace("_", " "), f"{value:,.0f}"] for name, value in mean.items()]
    lines += [
        ["cycles, estimated from the calibration rows", f"{mapped.estimate.cycles:,}"],
        ["cycles, estimated from these rows", f"{own:,}"],
        ["share of cycles in which the lanes add", f"{mean['taps'] / mean['cycles']:.1%}"],
        ["share of lane-cycles with an addition that counts", f"{_useful(found, mapped, trace, mean):.1%}"],
        [f"images a second at {clock / 1e6:g} MHz", f"{clock / mean['cycles']:,.1f}"],
    ]
    if mapped.use.external:
        lines.append(["of which weights are fetched in, estimated", f"{mapped.estimate.fetching:,.0f}"])
    spent = priced(mean, mapped.design.sizes.lanes, model)
    lines += [[f"{name} in nJ, priced by {model.name}", f"{pj / 1000:,.1f}"] for name, pj in spent.items()]
    print(f"{graph.name}: {count} images bit-exact in {simulator}, in {seconds:.0f} s")
    print(table(["per image", "mean"], lines))


def _useful(found: Units, mapped: Mapped, trace: Trace, mean: dict[str, float]) -> float:
    density = trace.density(found.graph.settle_steps)
    useful = estimated(found, mapped.design, density).useful
    return useful / (mean["cycles"] * mapped.design.sizes.lanes)


def density(path: Path, rows: Path, profile: str) -> None:
    """Run an artefact on one image of which more and more is silent, and print cycles against density."""
    artefact = load(path)
    graph = artefact.graph
    _, mapped = _fitted(graph, profile)
    with np.load(rows) as arrays:
        q = artefact.encode(arrays["x"][:1])
    lines = []
    shares = (1.0, 0.5, 0.25, 0.1, 0.0)
    faded = [np.where(np.random.default_rng(0).random(q.shape) < share, q, 0) for share in shares]
    silent = graph.map(IntegrateFire, lambda node: node.with_(bias=np.zeros_like(node.bias)))
    got, _ = _simulated(silent, design(units(silent), mapped.design.sizes.lanes), np.concatenate(faded))
    trace = compared(silent, np.concatenate(faded), got)
    for row, share in enumerate(shares):
        spikes = sum(float(np.abs(counts[row]).sum()) for counts in trace.counts.values())
        neurons = sum(counts[row].size for counts in trace.counts.values())
        cycles = [got.activity[name][row] for name in ("cycles", "cycles_adding", "cycles_firing", "taps")]
        fired = spikes / neurons / graph.timesteps
        lines.append([f"{share:.0%}", f"{fired:.3f}", *(f"{value:,}" for value in cycles)])
    head = [
        "share of the input kept",
        "counts per neuron and step",
        "cycles",
        "adding",
        "firing",
        "additions",
    ]
    print(table(head, lines))


def by_lanes(path: Path, profile: str) -> None:
    """Print what designs of an artefact take of a part, and their cycles, for each number of lanes."""
    graph = load(path).graph
    found, part = units(graph), device(profile)
    lines = []
    designs = Designs(found)
    laid_out = [(f"{lanes}", designs.whole(lanes)) for lanes in LANES]
    if part.sdram_words:
        laid_out += [(f"{lanes}, SDRAM", designs.fetching(lanes, part)) for lanes in LANES]
    for which, made in laid_out:
        taken, estimate = use(made.sizes, part), estimated(found, made, graph.density)
        cycles = estimate.cycles
        spent = (estimate.adding, estimate.firing, estimate.maxima + estimate.fetching + estimate.rest)
        lines.append(
            [
                *(which, f"{taken.blocks}", f"{taken.dsps}", f"{taken.luts:,}", f"{cycles:,}"),
                *(f"{each / cycles:.1%}" for each in spent),
                f"{estimate.useful / (cycles * made.sizes.lanes):.1%}",
                taken.beyond(part) or "",
            ]
        )
    head = ["lanes", "block RAMs", "multipliers", "look-up tables", "cycles", "adding", "firing", "other"]
    print(table([*head, "lane-cycles that count", f"too many for {profile}"], lines))


def changes(path: Path, rows: Path, count: int, profile: str) -> None:
    """Run an artefact in Icarus, and print how many bits of nets and registers change for an image."""
    artefact = load(path)
    graph = artefact.graph
    _, mapped = _fitted(graph, profile)
    with np.load(rows) as arrays:
        q = artefact.encode(arrays["x"][:count])
    stimulus = files.stream(q, [node.name for node in graph.encoders])
    with tempfile.TemporaryDirectory(prefix="snnc-") as name:
        folder = Path(name)
        write(mapped.design, folder, sizes=True, stimulus=stimulus.size)
        command = simulate.build("icarus", folder)
        # The waveform of a large network is larger than a disk, so it is read while it is written.
        os.mkfifo(folder / "snnc.vcd")
        with ThreadPoolExecutor(1) as reader:
            counted = reader.submit(toggles.counted, folder / "snnc.vcd")
            try:
                got = simulate.simulate(
                    command, mapped.design, stimulus, folder, arguments=["+vcd"], seconds=86_400
                )
            finally:  # a reader that never saw a writer would wait for one
                with suppress(OSError):
                    os.close(os.open(folder / "snnc.vcd", os.O_WRONLY | os.O_NONBLOCK))
            found = counted.result()
    compared(graph, q, got)
    cycles = float(got.activity["cycles"].mean())
    lines = [
        [unit, f"{times / count:,.0f}", f"{times / count / cycles:.1f}"] for unit, times in found.items()
    ]
    total = sum(found.values()) / count
    lines.append(["all", f"{total:,.0f}", f"{total / cycles:.1f}"])
    print(f"{graph.name}: {count} images bit-exact in Icarus, {cycles:,.0f} cycles each, {profile}")
    print(table(["unit", "changed bits of an image", "of a cycle"], lines))


def in_c(path: Path, rows: Path, count: int) -> None:
    """Run the same network in C on a Cortex-M4 in QEMU, and print instructions of an image."""
    artefact = load(path)
    with np.load(rows) as arrays:
        found = microcontroller.instructions(artefact, arrays["x"][:count])
    lines = [
        [level, f"{each.mean():,.0f}", f"{each.min():,} to {each.max():,}"] for level, each in found.items()
    ]
    print(f"{artefact.graph.name}: {count} images in C on a Cortex-M4 in QEMU, outputs as expected")
    print(table(["gcc", "instructions of an image", "from and to"], lines))


def _fitted(graph: SnnGraph, profile: str) -> tuple[Units, Mapped]:
    found = units(graph)
    mapped = Designs(found).fitted(device(profile))
    if found.problems or isinstance(mapped, str):
        raise SystemExit(f"{graph.name} does not fit {profile}: {found.problems or mapped}")
    return found, mapped


def _simulated(
    graph: SnnGraph, made: Design, q: Rows, simulator: str = "verilator"
) -> tuple[simulate.Simulated, float]:
    stimulus = files.stream(q, [node.name for node in graph.encoders])
    with tempfile.TemporaryDirectory(prefix="snnc-") as name:
        folder = Path(name)
        write(made, folder, sizes=True, stimulus=stimulus.size)
        command = simulate.build(simulator, folder)
        began = time.perf_counter()
        found = simulate.simulate(command, made, stimulus, folder)
    return found, time.perf_counter() - began


def perceptron(folder: Path) -> None:
    """Train 49-32-32-10 on the pictures of the zoo, pooled to 7 x 7, and write network and rows."""
    entry = resolve("zoo:fashion-resnet")
    (x, y), (test, labels) = calibration_data(entry), test_data(entry)
    pooled, held = _pooled(x), _pooled(test)
    rng = np.random.default_rng(0)
    sizes = (49, 32, 32, 10)
    weights = [rng.normal(size=(a, b)) * np.sqrt(2 / a) for a, b in pairwise(sizes)]
    biases = [np.zeros(n) for n in sizes[1:]]
    for step in range(3000):
        chosen = rng.integers(0, len(pooled), 64)
        values = [pooled[chosen]]
        for w, b in zip(weights, biases, strict=True):
            values.append(values[-1] @ w + b)
            if len(values) <= len(weights):
                values[-1] = np.maximum(values[-1], 0)
        scores = np.exp(values[-1] - values[-1].max(axis=1, keepdims=True))
        error = scores / scores.sum(axis=1, keepdims=True) - np.eye(10)[y[chosen]]
        for place in reversed(range(len(weights))):
            gradient = values[place].T @ error / 64
            shift = error.mean(axis=0)
            error = (error @ weights[place].T) * (values[place] > 0)
            rate = 0.1 * (1 - step / 3000)
            weights[place] -= rate * gradient
            biases[place] -= rate * shift
    nodes, tensors, at = [], [], "x"
    for place, (w, b) in enumerate(zip(weights, biases, strict=True)):
        tensors.append(numpy_helper.from_array(w.astype(np.float32), f"w{place}"))
        tensors.append(numpy_helper.from_array(b.astype(np.float32), f"b{place}"))
        nodes.append(helper.make_node("Gemm", [at, f"w{place}", f"b{place}"], [f"h{place}"]))
        at = f"h{place}"
        if place + 1 < len(weights):
            nodes.append(helper.make_node("Relu", [at], [f"r{place}"]))
            at = f"r{place}"
    given, told = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])]
        for name, size in (("x", 49), (at, 10))
    )
    model = helper.make_model(
        helper.make_graph(nodes, "perceptron", given, told, tensors),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, folder / "perceptron.onnx")
    np.savez(folder / "calibration.npz", x=pooled.astype(np.float32))
    np.savez(folder / "test.npz", x=held.astype(np.float32), y=labels)
    print(f"wrote perceptron.onnx, calibration.npz and test.npz to {folder}")


def _pooled(x: NDArray[np.uint8]) -> NDArray[np.float64]:
    return x.reshape(len(x), 7, 4, 7, 4).mean(axis=(2, 4)).reshape(len(x), 49) / 255


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fpga", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("random")
    command.add_argument("--count", type=int, default=300)
    command.add_argument("--external", action="store_true", help="fetch weights from an external memory")
    commands.add_parser("perceptron").add_argument("folder", type=Path)
    command = commands.add_parser("convert")
    command.add_argument("network", help="of the corpus, or zoo:NAME")
    command.add_argument("folder", type=Path)
    command.add_argument("--shared", type=Path, default=corpus_data.DEFAULT)
    command = commands.add_parser("lanes")
    command.add_argument("artefact", type=Path)
    command.add_argument("--profile", default="ecp5-85")
    for name in ("images", "density", "toggles", "microcontroller"):
        command = commands.add_parser(name)
        command.add_argument("artefact", type=Path)
        command.add_argument("rows", type=Path)
        if name != "microcontroller":
            command.add_argument("--profile", default="ecp5-85")
        if name != "density":
            command.add_argument("--count", type=int, default=100 if name == "images" else 5)
        if name == "images":
            command.add_argument("--simulator", choices=simulate.SIMULATORS, default="verilator")
            command.add_argument("--cost-model", type=Path, help="TOML, as `snnc report` reads it")
    given = parser.parse_args()
    match given.command:
        case "random":
            random(given.count, external=given.external)
        case "convert":
            networks.write(given.network, given.folder, given.shared)
        case "images":
            model = MODELS["45nm"] if given.cost_model is None else read_model(given.cost_model)
            images(given.artefact, given.rows, given.count, given.profile, model, given.simulator)
        case "lanes":
            by_lanes(given.artefact, given.profile)
        case "toggles":
            changes(given.artefact, given.rows, given.count, given.profile)
        case "microcontroller":
            in_c(given.artefact, given.rows, given.count)
        case "density":
            density(given.artefact, given.rows, given.profile)
        case _:
            perceptron(given.folder)


if __name__ == "__main__":
    main()
