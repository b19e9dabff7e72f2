r"""Write reports of trained networks, and pictures of their pages.

    python -m benchmarks.report.pages -o FOLDER [--shared FOLDER] [--network NAME ...] [-T N ...] [--rows N]
    python -m benchmarks.report.pages -o build/reports --network zoo:fashion-resnet -T 4 \
        --preset binary-only --picture docs/pictures/report.png

By default the four networks that the documentation speaks of, at T = 4 and 8, from the optional folder
`../shared`; `--network zoo:fashion-resnet` needs nothing beside snnc. For each network: the page, its figures
as JSON, and, where Chromium is installed (`benchmarks/report/install_chromium.sh`), screenshots
at three widths, in the dark, and as it is printed. The second command makes the picture in the documentation.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from benchmarks.common.corpus_data import DEFAULT, networks, sets
from snnc.cli import main as snnc
from tests import browser

NETWORKS = (
    "chenyaofo_cifar10_resnet20",
    "akamaster_resnet56_legacy",
    "mlperf_resnet8_keras",
    "mlperf_kws_f32_tflite",
)

SCREEN = (1000, 900)
"""Size of the picture in the documentation, in pixels."""


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write to.")
@click.option("--shared", type=click.Path(path_type=Path), default=DEFAULT, help="The optional folder.")
@click.option("--network", "chosen", multiple=True, default=NETWORKS, show_default=True)
@click.option("-T", "--timesteps", multiple=True, type=int, default=(4, 8), show_default=True)
@click.option("--preset", default="balanced", show_default=True)
@click.option("--calibration", default=500, show_default=True, help="Calibration rows.")
@click.option("--rows", default=1000, show_default=True, help="Rows that are measured.")
@click.option("--picture", type=click.Path(path_type=Path), help="Write the first screen, small.")
def main(
    output: Path,
    shared: Path,
    chosen: tuple[str, ...],
    timesteps: tuple[int, ...],
    preset: str,
    calibration: int,
    rows: int,
    picture: Path | None,
) -> None:
    """Convert, report and photograph."""
    output.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            model, calib, test = _material(Path(folder), shared, name, calibration)
            for T in timesteps:
                base = output / f"{name.rpartition(':')[2]}_T{T}"
                artefact = base.with_suffix(".snn.onnx")
                made = ["convert", model, *calib, "-T", str(T), "--preset", preset, "-o", str(artefact)]
                _run([*made, "--force", "-q"])
                start = time.perf_counter()
                page, figures = base.with_suffix(".html"), base.with_suffix(".json")
                told = ["-o", str(page), "--json-file", str(figures), "--limit", str(rows), "--force", "-q"]
                _run(["report", str(artefact), *test, "--source", model, *told])
                seconds = time.perf_counter() - start
                found = json.loads(figures.read_text(encoding="utf-8"))
                click.echo(f"{base.name}: {seconds:.1f} s for {found['n']} rows. {found['verdict']['text']}")
                _photographs(page)
                if picture is not None and browser.BROWSER is not None:
                    browser.photograph(page, *SCREEN, picture)
                    _shrink(picture)


def _shrink(picture: Path) -> None:
    """Keep few colours: a page has few."""
    from PIL import Image

    with Image.open(picture) as image:
        few = image.convert("RGB").quantize(32, dither=Image.Dither.NONE)
    few.save(picture, optimize=True)


def _run(arguments: list[str]) -> None:
    code = snnc(arguments)
    if code:
        raise click.ClickException(f"snnc {' '.join(arguments)} ended with {code}")


def _material(folder: Path, shared: Path, name: str, calibration: int) -> tuple[str, list[str], list[str]]:
    """Return the model, and the options that name calibration and test rows."""
    if name.startswith("zoo:"):
        return name, [], []
    network = next((item for item in networks(shared) if item.name == name), None)
    if network is None:
        raise click.ClickException(f"{name} is not in the corpus")
    data = sets(shared, network, calibration)
    np.savez(folder / "calibration.npz", x=data.calibration)
    np.savez(folder / "test.npz", x=data.x, y=data.y)
    options = ["--calib", str(folder / "calibration.npz")]
    if data.preprocessing is not None:
        path = folder / "preprocessing.json"
        path.write_text(json.dumps(data.preprocessing.as_dict()), encoding="utf-8")
        options += ["--preprocess", str(path)]
    return str(network.path), options, ["--data", str(folder / "test.npz")]


def _photographs(page: Path) -> None:
    if browser.BROWSER is None:
        click.echo("no screenshots: install Chromium by benchmarks/report/install_chromium.sh")
        return
    for width in browser.WIDTHS:
        seen = browser.look(page, width)
        wrong = [*seen.wide, *seen.cut, *seen.console]
        click.echo(f"  {width} px: {wrong or 'nothing overflows or is cut'}")
        browser.photograph(page, width, 4000, page.with_suffix(f".{width}.png"))
    browser.photograph(page, 1440, 1600, page.with_suffix(".dark.png"), dark=True)
    browser.print_out(page, page.with_suffix(".pdf"))


if __name__ == "__main__":
    main()
