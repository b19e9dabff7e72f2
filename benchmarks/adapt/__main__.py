"""Learning after the conversion, measured: the tables of ``docs/adapt.md``.

    python -m benchmarks.adapt.network -o resnet20_of_5.onnx          # about 10 minutes on one core
    python -m benchmarks.adapt incremental --network resnet20_of_5.onnx
    python -m benchmarks.adapt few-shot
    python -m benchmarks.adapt compression
    python -m benchmarks.adapt revocation

Each prints Markdown. The data sets and the network of `few-shot` lie in the optional folder beside the
project; `incremental` and `compression` need PyTorch.
"""

from __future__ import annotations

import click

from benchmarks.adapt.compression import compression
from benchmarks.adapt.few_shot import few_shot
from benchmarks.adapt.incremental import incremental
from benchmarks.adapt.revocation import revocation


@click.group()
def cli() -> None:
    """Print one table."""


for command in (incremental, few_shot, compression, revocation):
    cli.add_command(command)

if __name__ == "__main__":
    cli()
