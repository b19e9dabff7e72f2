"""What one case does: make hostile input from its number, give it to snnc, and say how that ended."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx.numpy_helper import to_array

from benchmarks.fuzz.mutations import bytes_changed, change_field, mutated
from benchmarks.fuzz.networks import Seed, image, made, others, perceptron
from benchmarks.fuzz.random_graphs import random_graph
from benchmarks.fuzz.recordings import recording
from snnc.artefact import Artefact, load, save
from snnc.artefact.metadata import HASH, content_hash
from snnc.backends import load_backend, manifest
from snnc.backends.deployment import deploy, verify
from snnc.cli import main
from snnc.compiler import Options, convert, read_convertible
from snnc.data.material import read_material
from snnc.data.row_files import read_rows
from snnc.errors import InputError, InternalError, SnncError, UnsupportedModelError
from snnc.frontend import SourceModel, read_onnx
from snnc.ir.batch import rows_of
from snnc.ir.text import print_graph
from snnc.simulation.ann_reference import run_ann
from snnc.simulation.reference import ReferenceSimulator, encode

OTHERS = 0.06
"""Share of the cases that begin with a network of others, small ones far more often than large ones."""

WHOLE = 0.25
"""Share of the cases that go through all that `snnc check` does: dividing, and a lowering on trial."""

MOST_ROWS = 1 << 20
"""Values of the rows that a network is compared on."""

Enter = Callable[[str], None]
"""Called when a case enters a stage: ``snnc``, ``preparing`` what all cases share, or ``oracle`` while code
runs that is not snnc's."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a case ended.

    Attributes:
        name: such as ``refused as damaged``.
        finding: what is wrong with it; empty if nothing.
    """

    name: str
    finding: str = ""


def run_case(kind: str, seed: int, index: int, folder: Path, enter: Enter) -> Outcome:
    """Run a case.

    Args:
        kind: one of ``KINDS``.
        seed: of the series.
        index: number of the case: the same seed and number are the same case.
        folder: empty, for its files.
        enter: told about stages.
    """
    rng = random.Random(f"{kind} {seed} {index}")
    try:
        return KINDS[kind](rng, folder, enter)
    except InternalError as error:
        return Outcome("internal error", f"{type(error).__name__}: {error}")
    except UnsupportedModelError as error:
        codes = sorted({item.code.number for item in error.diagnostics})
        return Outcome("refused with a code") if codes else Outcome("refused", f"without a code: {error}")
    except InputError as error:
        text = str(error)
        return Outcome("refused as damaged", "" if "\n" not in text else f"more than a line: {text!r}")
    except SnncError as error:
        return Outcome(f"refused: {type(error).__name__}")


def reproduced(kind: str, seed: int, index: int) -> bytes:
    """Return the hostile model of a case."""
    rng = random.Random(f"{kind} {seed} {index}")
    return random_graph(rng).SerializeToString() if kind == "graphs" else _hostile(rng)[1]


def mutation(rng: random.Random, folder: Path, enter: Enter) -> Outcome:
    """Read a mutated network, and hold what is read against onnxruntime."""
    seed, data = _hostile(rng)
    path = folder / "model.onnx"
    path.write_bytes(data)
    if seed.beside:
        (folder / ("weights.bin" if seed.name == "external" else f"{seed.name}.onnx.data")).write_bytes(
            seed.beside
        )
        (folder / "link.bin").symlink_to(folder.parent / "outside.bin")
    return _compared(path, rng, enter, whole=rng.random() < WHOLE)


def graph(rng: random.Random, folder: Path, enter: Enter) -> Outcome:
    """Read a random valid network, and hold what is read against onnxruntime."""
    path = folder / "model.onnx"
    path.write_bytes(random_graph(rng).SerializeToString())
    return _compared(path, rng, enter, whole=rng.random() < WHOLE)


def _hostile(rng: random.Random) -> tuple[Seed, bytes]:
    own, public = made(), others()
    seed = rng.choice(own)
    if public and rng.random() < OTHERS:
        seed = public[int(len(public) * rng.random() ** 4)]
    return seed, mutated(seed.data, rng, rng.choice(own).data)


def _compared(path: Path, rng: random.Random, enter: Enter, *, whole: bool) -> Outcome:
    source = read_convertible(path, Options(4, "fast"))[0] if whole else read_onnx(path)
    if source.host is not None:
        return Outcome("read, a part for the host")
    size = max((int(np.prod(each.layout.source_shape)) for each in source.inputs), default=1)
    if (source.batch or 1) * size > MOST_ROWS:
        return Outcome("read, too large to compare")
    numbers = np.random.default_rng(rng.getrandbits(32))
    rows = {
        each.name: _rows(numbers, source.batch or 1, each.layout.source_shape, each.dtype)
        for each in source.inputs
    }
    enter("oracle")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        expected = session.run([each.name for each in source.outputs], rows)
    except Exception:  # noqa: BLE001 - onnxruntime's exceptions have no root of their own
        return Outcome("read, onnxruntime does not run it")
    enter("snnc")
    return _judged(source, rows, [np.asarray(value) for value in expected], _levels(path))


def _rows(numbers: np.random.Generator, batch: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if np.dtype(dtype).kind in "iu":
        return numbers.integers(0, 10, (batch, *shape)).astype(dtype)
    return numbers.normal(size=(batch, *shape)).astype(dtype)


def _levels(path: Path) -> dict[str, float]:
    """Return the step between two levels of each quantised output: how far a rounded tie may move it."""
    model = onnx.load(path)
    constants = {each.name: each for each in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and len(node.input) > 1 and node.input[1] in constants:
            found[node.output[0]] = float(np.max(np.abs(to_array(constants[node.input[1]])), initial=0))
    return found


def _judged(
    source: SourceModel,
    rows: dict[str, np.ndarray],
    expected: list[np.ndarray],
    levels: dict[str, float],
) -> Outcome:
    """Compare what was read with what onnxruntime gives.

    Args:
        source: what was read.
        rows: by the names of the inputs.
        expected: onnxruntime's values of the outputs.
        levels: as of :func:`_levels`.
    """
    given = {
        each.name: each.layout.to_canonical(rows[each.name]).astype(np.float32) for each in source.inputs
    }
    names = [node.name for node in source.graph]
    with np.errstate(all="ignore"):
        found, values = run_ann(source.graph, given if len(given) > 1 else next(iter(given.values())), names)
    outputs = (
        [found] if len(source.outputs) == 1 else [rows_of(found, name) for name in source.graph.output_names]
    )
    largest = max((float(np.abs(value).max(initial=0)) for value in values.values()), default=0.0)
    if not largest < 1e30:
        return Outcome("read, not finite")
    apart = False
    rough = any(warning.code.number == "SNN121" for warning in source.warnings)
    for each, value, wanted in zip(source.outputs, outputs, expected, strict=True):
        if wanted.dtype.kind in "iu":  # a quantised answer, of which the real value is read
            return Outcome("read, an answer in integers")
        wanted = wanted.astype(np.float64).ravel()
        value = each.layout.to_source(np.asarray(value, np.float32)).ravel()
        if not np.isfinite(wanted).all():
            return Outcome("read, not finite")
        if value.size != wanted.size:
            return Outcome("different", f"{each.name!r} has {value.size} values instead of {wanted.size}")
        error = float(np.abs(value - wanted).max(initial=0))
        if error <= 1.001 * levels.get(each.name, 0.0):
            apart |= error > 1e-4 * largest + 1e-6
        elif error > (5e-2 if rough else 1e-4) * largest + 1e-6:
            return Outcome("different", f"{each.name!r} differs by {error:.3g} of {largest:.3g}")
    return Outcome("read, a level apart" if apart else "equal to onnxruntime")


# Artefacts, bundles and rows


@cache
def _artefacts() -> tuple[Artefact, ...]:
    """Convert two small networks."""
    found = []
    for build in (perceptron, image):
        shape = [d.dim_value for d in build().graph.input[0].type.tensor_type.shape.dim][1:]
        rows = np.random.default_rng(0).normal(size=(32, *shape)).astype(np.float32)
        found.append(convert(build(), rows, Options(4, "fast", threads=1)).artefact)
    return tuple(found)


@cache
def _answers(which: int) -> np.ndarray:
    return _simulated(_artefacts()[which])


def _simulated(artefact: Artefact) -> np.ndarray:
    network = artefact.graph
    rows = np.random.default_rng(1).normal(size=(2, *network.encoder.shape)).astype(np.float32)
    outputs = ReferenceSimulator().run(network, encode(network.encoder, rows), 4).outputs
    arrays = (
        [outputs] if isinstance(outputs, np.ndarray) else [outputs[name] for name in network.output_names]
    )
    return np.concatenate([array.ravel() for array in arrays])


def artefact(rng: random.Random, folder: Path, enter: Enter) -> Outcome:
    """Load a changed artefact: it is refused, or gives the same; its hash renewed, it is refused or runs."""
    enter("preparing")
    which = rng.randrange(len(_artefacts()))
    enter("snnc")
    path = folder / "network.snn.onnx"
    save(_artefacts()[which], path)
    forged = rng.random() < 0.5
    if forged:
        model = onnx.load(path)
        for _ in range(rng.choice((1, 1, 2))):
            change_field(model, rng)
        for entry in model.metadata_props:
            if entry.key == HASH:
                entry.value = content_hash(model)
        path.write_bytes(model.SerializeToString())
    else:
        path.write_bytes(mutated(path.read_bytes(), rng, b""))
    read = load(path)
    print_graph(read.graph)
    if forged:
        _simulated(read)
        return Outcome("read and run, its hash renewed")
    if not np.array_equal(_simulated(read), _answers(which)):
        return Outcome("different", "the changed artefact gives other answers")
    return Outcome("the same answers")


@cache
def _bundle(root: Path) -> Path:
    made = root / "bundle"
    shutil.rmtree(made, ignore_errors=True)
    return deploy(_artefacts()[0], load_backend("spiking-onnx"), made).directory


def bundle(rng: random.Random, folder: Path, enter: Enter) -> Outcome:
    """Verify a bundle of which one file was changed."""
    copy = folder / "bundle"
    enter("preparing")
    shutil.copytree(_bundle(folder.parent), copy)
    enter("snnc")
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    path = rng.choice(files)
    path.write_bytes(mutated(path.read_bytes(), rng, files[0].read_bytes()))
    if rng.random() < 0.5 and path.name != manifest.NAME:
        content = manifest.read(copy)
        kept = {key: value for key, value in content.items() if key not in ("files", manifest.OWN_HASH)}
        manifest.write(copy, kept)
    verify(copy, run=False)
    enter("oracle")
    verify(copy)
    return Outcome("verified")


def rows(rng: random.Random, folder: Path, _: Enter) -> Outcome:
    """Read a damaged file of rows."""
    name = rng.choice(("rows.npz", "packed.npz", "rows.npy"))
    path = folder / name
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    writers: dict[str, Callable[..., None]] = {
        "rows.npz": partial(np.savez, x=x, y=np.arange(4)),
        "packed.npz": partial(np.savez_compressed, x=x),
        "rows.npy": lambda file: np.save(file, x),
    }
    writers[name](path)
    data = path.read_bytes()
    if rng.random() < 0.4:  # sizes that are not there
        shape = rng.choice((b"(4, 6)", b"(9, 6)", b"(4,9999999999)", b"(-1, 6)", b"(1,)*9**9"))
        data = data.replace(b"(4, 6), }" + b" " * (len(shape) - 6), shape + b", }", 1)
    for _time in range(rng.randrange(3)):
        data = mutated(data, rng, b"PK\x03\x04")
    path.write_bytes(data)
    read_rows(path)
    return Outcome("read")


def damaged_recording(rng: random.Random, folder: Path, _: Enter) -> Outcome:
    """Read a damaged picture or sound, or one that claims far more than it holds."""
    tempfile.tempdir = str(folder)  # where many rows go
    name, data = recording(rng)
    for _time in range(rng.randrange(3)):
        data = bytes_changed(data, rng, recording(rng)[1])
    (folder / "rows").mkdir()
    (folder / "rows" / name).write_bytes(data)
    read_material(folder / "rows")
    return Outcome("read")


def command(rng: random.Random, folder: Path, enter: Enter) -> Outcome:
    """Give a mutated file to the command line."""
    enter("preparing")
    which = rng.randrange(len(_artefacts()))
    enter("snnc")
    verb = rng.choice(("check", "sarif", "inspect", "run"))
    path = folder / "file.onnx"
    if verb in ("check", "sarif"):
        path.write_bytes(_hostile(rng)[1])
        arguments = ["check", str(path), *(["--format", "sarif"] if verb == "sarif" else [])]
    else:
        path = folder / "file.snn.onnx"
        save(_artefacts()[which], path)
        path.write_bytes(mutated(path.read_bytes(), rng, b""))
        shape = _artefacts()[which].graph.encoder.shape
        data = folder / "rows.npy"
        np.save(data, np.zeros((2, *shape), np.float32))
        rest = ["--input", str(data), "-o", str(folder / "y.npy"), "--backend", "reference"]
        arguments = [verb, str(path), *(rest if verb == "run" else [])]
    told, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(complained):
        code = main(arguments)
    errors = [line for line in complained.getvalue().splitlines() if line.startswith("error: ")]
    if code not in (0, 3, 5) or len(errors) > 1 or (code == 5 and not errors):
        return Outcome(
            f"{verb}: exit code {code}", f"{verb}: exit code {code}: {complained.getvalue()[:300]!r}"
        )
    return Outcome(f"{verb}: exit code {code}")


KINDS: dict[str, Callable[[random.Random, Path, Enter], Outcome]] = {
    "models": mutation,
    "graphs": graph,
    "artefacts": artefact,
    "bundles": bundle,
    "rows": rows,
    "recordings": damaged_recording,
    "commands": command,
}
"""What a case can be about."""
