"""Do time and memory grow in proportion to a network? Deep chains, and wide layers with many weights.

    python -m benchmarks.speed.size
    python -m benchmarks.speed.size --kind deep --sizes 750,1500,3000

Each step (check, convert, a run of 64 rows in onnxruntime) runs in a process of its own; its time and
its largest resident memory are printed and kept in `benchmarks/measured/size.jsonl`. `--calibration` says how
many random rows a conversion gets; `--report docs/size.md` writes the page, with `--no-measure` from what is
kept.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.common import digests
from benchmarks.common.tables import Row, read, table
from benchmarks.speed import memory
from snnc.artefact import save
from snnc.compiler import Options, check, convert, simulate
from snnc.writing import replacing

CHANNELS, SIDE = 8, 8
WIDTH = 4096
SIZES = {"deep": "750,1500,3000", "wide": "125,250,500"}
JUDGED = 64
STEPS = ("check", "convert", "simulate")
KEPT = Path("benchmarks/measured/size.jsonl")
PAGE = """# Time and memory by the size of the network

Networks with random weights, on one machine of two cores. *Deep*: convolutions of {channels} channels on
{side} x {side} pixels with residual sums. *Wide*: fully connected layers of {width:,} neurons. `fast`, T = 4,
100 random calibration rows; *simulate* is a run of {judged} rows in onnxruntime, with loading. Each step is a
process of its own; the memory is its largest resident set. Printed by

    python -m benchmarks.speed.size --report docs/size.md

"""


def deep(nodes: int, seed: int) -> onnx.ModelProto:
    """Return convolutions of 8 channels on 8 x 8 pixels, each followed by a rectifier: so many nodes in all.

    Every second block adds what it was given, so that values stay alive over the whole depth.
    """
    random = np.random.default_rng(seed)
    made: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    value = "image"
    while len(made) < nodes - 2:
        name = f"block{len(made)}"
        # The sum over the depth doubles the power of the values, whatever the depth.
        weight = random.standard_normal((CHANNELS, CHANNELS, 3, 3)) * (3 / (nodes * CHANNELS * 9)) ** 0.5
        constants.append(numpy_helper.from_array(weight.astype(np.float32), f"{name}.w"))
        made.append(
            helper.make_node("Conv", [value, f"{name}.w"], [f"{name}.c"], f"{name}.conv", pads=[1] * 4)
        )
        made.append(helper.make_node("Add", [f"{name}.c", value], [f"{name}.a"], f"{name}.add"))
        made.append(helper.make_node("Relu", [f"{name}.a"], [f"{name}.r"], f"{name}.relu"))
        value = f"{name}.r"
    weight = random.standard_normal((10, CHANNELS * SIDE * SIDE)) / SIDE
    constants.append(numpy_helper.from_array(weight.astype(np.float32), "fc.w"))
    made.append(helper.make_node("Flatten", [value], ["flat"], "flatten"))
    made.append(helper.make_node("Gemm", ["flat", "fc.w"], ["scores"], "fc", transB=1))
    return _model(made, constants, [CHANNELS, SIDE, SIDE])


def wide(megabytes: int, seed: int) -> onnx.ModelProto:
    """Return fully connected layers of 4,096 neurons with so many megabytes of float32 weights in all."""
    random = np.random.default_rng(seed)
    made: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    value = "image"
    layers = max(1, round(megabytes * 1e6 / (4 * WIDTH * WIDTH)))
    for index in range(layers + 1):
        outputs = 10 if index == layers else WIDTH
        weight = random.standard_normal((outputs, WIDTH), dtype=np.float32) * np.float32((2 / WIDTH) ** 0.5)
        constants.append(numpy_helper.from_array(weight, f"fc{index}.w"))
        result = "scores" if index == layers else f"fc{index}"
        made.append(helper.make_node("Gemm", [value, f"fc{index}.w"], [result], f"fc{index}", transB=1))
        if index < layers:
            made.append(helper.make_node("Relu", [result], [f"relu{index}"], f"relu{index}"))
        value = f"relu{index}"
    return _model(made, constants, [WIDTH])


def _model(
    nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], shape: list[int]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 10])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


MAKERS = {"deep": deep, "wide": wide}


def step(name: str, model: Path, artefact: Path, rows: int, preset: str) -> dict[str, float]:
    """Do one step in this process; return its seconds and its largest memory, in GB."""
    shape = (CHANNELS, SIDE, SIDE) if model.stem == "deep" else (WIDTH,)
    x = np.abs(np.random.default_rng(1).standard_normal((max(rows, JUDGED), *shape))).astype(np.float32)
    start = time.perf_counter()
    if name == "check":
        found = check(model, Options(4, preset))
        if found:
            raise click.ClickException(f"cannot be converted: {found[0].message}")
    elif name == "convert":
        save(convert(model, x[:rows], Options(4, preset)).artefact, artefact)
    else:
        simulate(artefact, x[:JUDGED], backend="onnx")
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def inside(name: str, model: Path, artefact: Path, rows: int, preset: str) -> dict[str, float]:
    """Do one step in a process of its own."""
    parts = ["--inside", name, "--model", str(model), "--artefact", str(artefact)]
    parts += ["--calibration", str(rows), "--preset", preset]
    command = [sys.executable, "-m", "benchmarks.speed.size", *parts]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


IMAGES = """
## Large images

Conversions of networks of known forms with random weights, on square images; a process each. Measured by

    python -m benchmarks.speed.memory --network resnet18 --rows 500 --preset balanced -T 4 --threads 2

"""


def images(kept: list[Row]) -> str:
    """Return the section of conversions for large images."""
    head = ("network", "pixels a side", "calibration rows", "preset", "T", "threads", "s", "GB")
    lines = [
        [
            row["network"],
            str(row["size"]),
            str(row["rows"]),
            row["preset"] or "default",
            str(row["timesteps"] or "default"),
            str(row["threads"]),
            f"{row['seconds']:.0f}",
            f"{row['gigabytes']:.2f}",
        ]
        for row in kept
    ]
    sources = ", ".join(sorted({row["sources"] for row in kept}))
    return f"{IMAGES}{table(head, lines)}\nMeasured on the sources {sources}.\n" if kept else ""


def page(kept: list[Row]) -> str:
    """Return the page of all that was measured of deep and of wide networks."""
    head = ["network", *(f"{name}, {unit}" for name in STEPS for unit in ("s", "GB"))]
    found = {(row["kind"], row["size"], row["step"]): row for row in kept}
    lines = []
    for kind, size in dict.fromkeys((row["kind"], row["size"]) for row in kept):
        cells = [f"{kind}, {size} {'nodes' if kind == 'deep' else 'MB of weights'}"]
        for name in STEPS:
            row = found[kind, size, name]
            cells += [f"{row['seconds']:.1f}", f"{row['gigabytes']:.2f}"]
        lines.append(cells)
    sources = ", ".join(sorted({row["sources"] for row in kept}))
    text = PAGE.format(channels=CHANNELS, side=SIDE, width=WIDTH, judged=JUDGED)
    return f"{text}{table(head, lines)}\nMeasured on the sources {sources}.\n"


def keep(row: Row) -> None:
    """Keep a measurement in place of an earlier one of the same kind."""
    same = ("kind", "size", "step")
    rows = [old for old in read(KEPT) if any(old[key] != row[key] for key in same)]
    with replacing(KEPT) as file:
        file.write("".join(json.dumps(each) + "\n" for each in [*rows, row]).encode())


@click.command()
@click.option("--kind", type=click.Choice(list(MAKERS)), multiple=True, help="All by default.")
@click.option("--sizes", default=None, help="Nodes of deep networks, megabytes of wide ones.")
@click.option("--preset", default="fast", show_default=True)
@click.option("--calibration", default=100, show_default=True, help="Random rows.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the page from what was measured.")
@click.option("--measure/--no-measure", default=True, show_default=True)
@click.option("--inside", "name", default=None, hidden=True)
@click.option("--model", type=click.Path(path_type=Path), default=None, hidden=True)
@click.option("--artefact", type=click.Path(path_type=Path), default=None, hidden=True)
def main(
    kind: tuple[str, ...],
    sizes: str | None,
    preset: str,
    calibration: int,
    report: Path | None,
    measure: bool,
    name: str | None,
    model: Path | None,
    artefact: Path | None,
) -> None:
    """Print time and memory of each step, by the size of the network."""
    if name is not None and model is not None and artefact is not None:
        print(json.dumps(step(name, model, artefact, calibration, preset)))
        return
    for each in (kind or tuple(MAKERS)) if measure else ():
        for size in map(int, (sizes or SIZES[each]).split(",")):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{each}.onnx"
                onnx.save(MAKERS[each](size, seed=0), path)
                for stage in STEPS:
                    found = inside(stage, path, path.with_suffix(".snn.onnx"), calibration, preset)
                    row = {"kind": each, "size": size, "step": stage, **found, "sources": digests.compiler()}
                    print(
                        f"{each} {size} {stage}: {row['seconds']:.1f} s, {row['gigabytes']:.2f} GB",
                        flush=True,
                    )
                    keep(row)
    if report is not None:
        with replacing(report) as file:
            file.write((page(read(KEPT)) + images(read(memory.KEPT))).encode())


if __name__ == "__main__":
    main()
