"""The C bundle of every network of the corpus in ../shared/models, compiled and compared bit for bit.

    python -m benchmarks.corpus.c99                                   # all, about ten minutes
    python -m benchmarks.corpus.c99 --networks cntk_mnist_winml --checked

Each network is converted with the preset `fast` at T = 4, deployed with real rows where there are some,
compiled with all warnings as errors, and run; its outputs, counts and potentials have to be the reference's.
`--checked` compiles with ASan and UBSan.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks.common import corpus_data
from snnc.artefact import save
from snnc.backends import load_backend
from snnc.backends.c99.backend import C99
from snnc.backends.deployment import deploy
from snnc.backends.manifest import read
from snnc.compiler import Options, convert
from snnc.errors import SnncError
from snnc.frontend import read_onnx

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")
CHECKED = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
CALIBRATION_ROWS = 128
OPTIONS = Options(timesteps=4, preset="fast")


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a network.

    Attributes:
        result: in words.
        rows: inputs compared.
        answers: different outputs among them.
        populations: populations whose counts and potentials were compared.
        ram: bytes of the state.
        constants: bytes.
        wrong: whether something differs.
    """

    result: str
    rows: int = 0
    answers: int = 0
    populations: int = 0
    ram: int = 0
    constants: int = 0
    wrong: bool = False


def check(network: corpus_data.Network, shared: Path, rows: int, flags: tuple[str, ...]) -> Found:
    """Convert, deploy, compile and run one network."""
    with tempfile.TemporaryDirectory(prefix="snnc-") as temporary:
        folder = Path(temporary)
        try:
            bundle = emit(network, shared, rows, folder)
        except SnncError as error:
            return Found(f"out of scope: {str(error).replace(str(network.path), network.path.name)}")
        content = read(bundle)
        golden, facts = content["golden"], content["facts"]
        program = str(folder / "selftest")
        compiled = run(["gcc", *STRICT, *flags, "snnc_network.c", "selftest.c", "-o", program], bundle)
        ran = run([program], bundle) if compiled.returncode == 0 else compiled
        good = ran.returncode == 0 and ran.stdout.endswith("PASSED\n")
        first = (ran.stdout + ran.stderr).strip().partition("\n")[0]
        return Found(
            "bit-exact" if good else f"WRONG: {first}",
            golden["rows"],
            golden["distinct_outputs"],
            len(golden["states"]),
            facts["ram_bytes"],
            facts["constant_bytes"],
            not good,
        )


def emit(network: corpus_data.Network, shared: Path, rows: int, folder: Path) -> Path:
    """Write the bundle."""
    if network.data:
        sets = corpus_data.sets(shared, network, CALIBRATION_ROWS)
        calibration, x, preprocessing = sets.calibration, sets.x[:rows], sets.preprocessing
    else:
        shape = read_onnx(network.path).layout.source_shape
        calibration, x = (
            corpus_data.synthetic(shape, n, seed) for n, seed in ((CALIBRATION_ROWS, 1), (rows, 2))
        )
        preprocessing = None
    found = convert(
        network.path, np.asarray(calibration[:CALIBRATION_ROWS]), OPTIONS, preprocessing=preprocessing
    )
    save(found.artefact, folder / "network.snn.onnx")
    deploy(found.artefact, load_backend(C99.name), folder / "bundle", rows=x)
    return folder / "bundle"


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=900)


@click.command()
@click.option("--shared", type=click.Path(path_type=Path), default=corpus_data.DEFAULT, show_default=True)
@click.option("--networks", default="", metavar="A,B", help="Only these; all by default.")
@click.option("--rows", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--checked", is_flag=True, help="Compile with ASan and UBSan.")
def main(shared: Path, networks: str, rows: int, checked: bool) -> None:
    """Compile and run the C of every network of the corpus, and print a table."""
    chosen = {name.strip() for name in networks.split(",") if name.strip()}
    corpus = [item for item in corpus_data.networks(shared) if not chosen or item.name in chosen]
    flags = CHECKED if checked else ("-O2",)
    print("| network | rows (different outputs) | populations | RAM | constants | result |")
    print("|---|---|---|---|---|---|")
    wrong = 0
    for network in corpus:
        found = check(network, shared, rows, flags)
        wrong += found.wrong
        sizes = f"{found.ram:,} B | {found.constants:,} B" if found.rows else " | "
        rows_of = f"{found.rows} ({found.answers})"
        print(f"| {network.name} | {rows_of} | {found.populations} | {sizes} | {found.result} |", flush=True)
    sys.exit(int(wrong > 0))


if __name__ == "__main__":
    main()
