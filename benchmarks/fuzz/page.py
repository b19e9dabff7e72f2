"""The page of the documentation about hostile files, made from the record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.common.tables import table

WHAT = {
    "models": "mutated networks: bytes and fields of protobuf messages",
    "graphs": "random valid networks",
    "artefacts": "mutated artefacts, the hash renewed in half of them",
    "bundles": "bundles with one mutated file, the manifest renewed in half of them",
    "commands": "mutated networks and artefacts on the command line: `check`, `inspect`, `run`",
    "rows": "mutated `.npy` and `.npz` files",
    "recordings": "mutated pictures and sounds, and those that claim far more than they hold",
}

INTRODUCTION = """# Hostile files

Made by `python -m benchmarks.fuzz --report docs/robustness.md`; do not edit. `python -m
benchmarks.fuzz` runs all of it, or goes on where the record `benchmarks/measured/fuzz.jsonl` ends;
`python -m benchmarks.fuzz models --seed 0 --only N --keep FILE` makes the file of one case again. Every
case is made from its kind, the seed and its number alone.

Networks begin as small ones that the script makes (with branches, loops, functions, sparse and external
data) or as the public networks beside the project. A child process reads each file, and is watched: a
*finding* is a crash, more than 10 s of processor time, more than 2 GiB of resident memory, an exception
that is not one of `snnc.errors`, a refusal without a code or of more than a line, an answer other than
onnxruntime's, a file opened outside of the case's folder, or a process or connection that is started.
"""

COVERAGE = """
## What is covered, and what is not

- Reading: `snnc check`, and the reading that `convert` begins with. External data are read in the
  model's folder alone, links followed; sizes are compared with the bytes that are there before anything
  is made; functions that call themselves, loops and constants that would grow without bound are
  refused.
- Artefacts and bundles: an artefact that is not what was written is refused by its hash; where the hash
  was renewed, what it holds is checked in form and bounds. `verify` generates programs anew and runs
  none of a bundle.
- Rows: headers are compared with what is there; files that unpack to more than 100 times their size are
  refused beyond 512 MiB; pickled objects are never loaded. Pictures of more than 2^26 pixels and sounds of
  more than 2^28 samples are refused by their headers.
- Reading uses onnx's own code in the same process: protobuf, the checker, the inliner and shape inference.
  The last one is kept from negative sizes, on which it ends the process; no network is run to read it.
- Running the source is onnxruntime's: `eval`, `report` and `bench` give the file to it in the same
  process. On mutated networks it may end the process, or use much memory; cases in which it did are
  counted below, and are no findings. Where files come from strangers, run these verbs in a container.
- Networks beyond onnxruntime's own operators, and files of more than 2 MiB, are mutated by nobody yet.
"""


FINDINGS = """
## Findings of the record

Of the sources as they were then. Each is mended since, with a test, but for what is no fault of the reader:
two were the comparison's own (45906; 68851, a network for images of 672 x 672, takes the memory when it
is run: reading it peaks at 0.9 GB);
of an answer in integers the real value is read, so that such answers are no longer compared; a quantised
answer (`QLinear` operators) may lie one level apart, which is counted below: cases are compared by the real
values of what was read, in float32, which may tie where the sum of integers does not. Both that were found
were traced to one value: 53493 to channel 13 of `node_Conv_219_quant`, whose sum of 16,632 is 51.499996
levels in onnxruntime and 51.5 in real values; 54569 to channel 40 of `node_Conv_231_quant`, 23,739, with
77.49999 and 77.5. A converted network adds the integers, and gives onnxruntime's level in both
(`tests/test_quantised_networks.py`).

"""


def page(lines: Sequence[dict[str, Any]]) -> str:
    """Return the page.

    Args:
        lines: of the record.
    """
    rows, outcomes = [], []
    for kind in WHAT:
        own = [line for line in lines if line["kind"] == kind]
        if not own:
            continue
        count = sum(line["count"] for line in own)
        findings = sum(len(line["findings"]) for line in own)
        slowest = max(line["slowest"] for line in own)
        peak = max(line["peak_mib"] for line in own)
        seeds = ", ".join(map(str, sorted({line["seed"] for line in own})))
        rows.append([WHAT[kind], f"{count:,}", seeds, str(findings), f"{slowest:.1f} s", f"{peak} MiB"])
        total: Counter[str] = Counter()
        for line in own:
            total.update(line["outcomes"])
        outcomes += [[kind, name, f"{number:,}"] for name, number in total.most_common()]
    found = [
        f"- {line['kind']} {index}, seed {line['seed']}: {text.partition(chr(10))[0][:120]}"
        for line in lines
        for index, text in line["findings"]
    ]
    listed = "\n".join(found) or "None."
    heading = ("what", "cases", "seed", "findings", "slowest", "most memory")
    ended = table(("kind", "how a case ended", "cases"), outcomes)
    summary = f"{INTRODUCTION}\n{table(heading, rows)}\n{COVERAGE}{FINDINGS}{listed}\n"
    return f"{summary}\n## How the cases ended\n\n{ended}"
