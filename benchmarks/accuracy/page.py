"""Write docs/accuracy.md and its pictures from the measurements of this room and of the peers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.accuracy import choices, learned
from benchmarks.accuracy.choices import ABLATION_STEPS, BINARY, LOW_LATENCY, MAIN, Setting
from benchmarks.common.tables import percent, read, table

Row = dict[str, Any]

TARGETS: dict[str, tuple[float, ...]] = {
    "chenyaofo_cifar10_resnet20": (47, 61, 72, 77, 86.5, 87.5, 91, 92.0),
    "akamaster_resnet56_legacy": (35, 45, 65, 71, 85, 87, 90.3, 92.0),
    "chenyaofo_cifar100_resnet20": (11, 16, 30, 36, 53.5, 57.5, 63.5, 66.5),
}
"""Top-1 in per cent that was aimed at, in the order of the main table."""

DROPS = {"mlperf_resnet8_keras": (None, None, 6, 5, 1.5, 1.2, 0.5, 0.5)}
"""Points below the source network that were aimed at."""

TITLES = {
    "chenyaofo_cifar10_resnet20": "CIFAR-10 ResNet-20",
    "akamaster_resnet56_legacy": "CIFAR-10 ResNet-56",
    "chenyaofo_cifar100_resnet20": "CIFAR-100 ResNet-20",
    "mlperf_resnet8_keras": "MLPerf Tiny ResNet-8",
}
FIRST = "chenyaofo_cifar10_resnet20"

FEWEST_LINES = 3
"""Settings below which a table compares nothing."""

PUBLISHED = (("QCFS, trained (Bu et al., ICLR 2022)", 91.77, {2: 73.20, 4: 83.75, 8: 89.55, 16: 91.62}),)
"""CIFAR-10 ResNet-20: tool, its source network's top-1, top-1 by T. These networks were trained for it."""


@cache
def _present(pipeline: str) -> str:
    """Return the text of a pipeline with the present names of options; one that is read no more stays."""
    from snnc.errors import UsageError
    from snnc.passes import PASSES
    from snnc.pipeline import Pipeline

    try:
        return Pipeline.parse(pipeline, PASSES).text
    except UsageError:
        return pipeline


class Found:
    """Measurements by network and setting."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows: dict[tuple[str, str, int], list[Row]] = {}
        for row in rows:
            key = (row["network"], _present(row["pipeline"]), row["timesteps"])
            self.rows.setdefault(key, []).append(row)

    def get(self, network: str, setting: Setting, n: int | None = None) -> Row | None:
        """Return one measurement: on ``n`` test rows, or else on the most; ``None`` without any."""
        rows = self.rows.get((network, _present(setting.pipeline), setting.timesteps), ())
        return max(rows, key=lambda row: (row["n"] == n, row["n"]), default=None)


def write(measured: Path, path: Path) -> None:
    """Write the page at ``path`` and the pictures beside it from a folder of measurements."""
    from benchmarks.accuracy import pictures, smooth

    rows = read(measured / "accuracy.jsonl")
    peers = read(measured / "peers_accuracy.jsonl")
    found = Found(rows)
    folder = path.parent / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    pictures.against_steps(found, peers, folder / "accuracy-against-steps.svg")
    searched = learned.searched(measured)
    pictures.against_operations(found, peers, folder / "accuracy-against-operations.svg", searched)
    sections = [
        _HEAD,
        _sources(rows),
        "## Accuracy\n",
        main_table(found),
        low_latency(found),
        _PICTURES,
        "## What each part earns\n",
        *(earned(found, FIRST, T) for T in ABLATION_STEPS),
        *(ablation_table(found, FIRST, T) for T in ABLATION_STEPS),
        "## Where a target was missed, what was tried\n",
        *(_tried(found, network, choices.FIFTEEN_TRIED, "T = 1, n = 4") for network in TITLES),
        *(
            part
            for network in TITLES
            if network != FIRST
            for T in ABLATION_STEPS
            if (lines := ablation_table(found, network, T))
            for part in (lines, earned(found, network, T))
        ),
        *learned.sections(measured),
        "## Binary spikes\n",
        binary_table(found),
        "## Cost\n",
        cost_table(found),
        "## Beside other tools\n",
        peer_table(found, peers),
        smooth.section(measured),
    ]
    path.write_text("\n".join(section for section in sections if section) + "\n", encoding="utf-8")


_HEAD = """# Accuracy of post-training conversion

Made by `python -m benchmarks.accuracy`, `python -m benchmarks.peers.accuracy` and
`python -m benchmarks.accuracy --report docs/accuracy.md`; do not edit.

Conversion sees 1,000 training images, drawn by seed, and no labels. Every figure is the top-1 of the
bit-exact int8 network on `n` rows of the test set, with its 95 % Wilson interval. The networks were trained
by others and are not changed for conversion. A unary spike is an accumulate; an event of several levels
counts as a multiply-accumulate. Operations are relative to the source network's multiply-accumulates.
"""

_PICTURES = """
![Top-1 against the number of steps](pictures/accuracy-against-steps.svg)

![Top-1 against operations](pictures/accuracy-against-operations.svg)
"""


def _sources(rows: Sequence[Row]) -> str:
    """Say by which sources the measurements were made, and how many of them by each."""
    counted = Counter(row["sources"] for row in rows)
    made = ", ".join(f"{count} by the sources `{digest}`" for digest, count in counted.most_common())
    return f"Measurements in `benchmarks/measured`: {made}.\n" if made else ""


def main_table(found: Found) -> str:
    """Return accuracy by network and setting, with the targets and whether they are met."""
    lines = []
    for network, title in TITLES.items():
        measured = [found.get(network, setting) for setting in MAIN]
        known = [row for row in measured if row is not None]
        if not known:
            continue
        ann = known[0]["ann"]["top1"]
        cells = [_cell(network, index, row) for index, row in enumerate(measured)]
        lines.append([f"{title} ({100 * ann:.2f}, n = {known[0]['n']})", *cells])
    head = ["network (ANN)", *heads(found, MAIN)]
    return table(head, lines) + "\nIn brackets the interval, then the target: ✓ met, ✗ missed.\n"


def heads(found: Found, settings: Sequence[Setting]) -> Iterator[str]:
    """Yield what stands above the columns of some settings: their labels and payloads."""
    for setting in settings:
        rows = (found.get(network, setting) for network in TITLES)
        payload = next((row["payload"] for row in rows if row is not None), "")
        yield f"{setting.label}<br>{payload}"


LOW_LATENCY_WORDS = """## Several levels a step

`balanced` neurons may send two spikes in a step, but only to catch up: after T steps no more than T count.
In the preset `low-latency` up to 2 T count, so T steps hold as many levels as 2 T do otherwise. With mixed
levels that holds only for the layers whose rounding alone moves the source's answers most, up to half of
the operations (`clip-activations{levels=2,share=0.5}`). With the fine skip, identity branches carry
15 levels or more beside that. `one-step` sends 15 levels in its only step, and 63 over identity branches. In
brackets the points below the source network; then operations relative to its multiply-accumulates.
"""


def low_latency(found: Found) -> str:
    """Return what spikes of several levels reach, for each network and T."""
    steps = sorted({setting.timesteps for setting in LOW_LATENCY})
    by_label: dict[str, dict[int, Setting]] = {}
    for setting in LOW_LATENCY:
        label = setting.label.removeprefix(f"T={setting.timesteps}, ")
        by_label.setdefault(label, {})[setting.timesteps] = setting
    lines = []
    for network, title in TITLES.items():
        for label, settings in by_label.items():
            rows = {T: row for T, s in settings.items() if (row := found.get(network, s)) is not None}
            if rows:
                payload = ", ".join(dict.fromkeys(row["payload"] for row in rows.values()))
                cells = (_low_latency_cell(rows[T]) if T in rows else "" for T in steps)
                lines.append([title, label, payload, *cells])
    head = ["network", "setting", "payload", *(f"T = {T}" for T in steps)]
    return f"{LOW_LATENCY_WORDS}\n{table(head, lines)}" if lines else ""


def _low_latency_cell(row: Row) -> str:
    lost = 100 * (row["ann"]["top1"] - row["top1"])
    return f"{percent(row)} (−{lost:.2f}), {row['synops'] / row['ann_macs']:.2f}"


def _cell(network: str, index: int, row: Row | None) -> str:
    if row is None:
        return ""
    text = percent(row)
    if network in TARGETS:
        target = TARGETS[network][index]
        return f"{text} {'✓' if 100 * row['top1'] >= target else '✗'} {target}"
    drop = DROPS.get(network, (None,) * len(MAIN))[index]
    if drop is None:
        return text
    lost = 100 * (row["ann"]["top1"] - row["top1"])
    return f"{text} (−{lost:.2f}) {'✓' if lost <= drop else '✗'} −{drop}"


EARNED = (
    ("thresholds by least squares instead of the 99.9th percentile", "p999", "layer"),
    ("one threshold per channel instead of one per layer", "layer", "channel"),
    ("int8 instead of float32", "float", "channel"),
    ("the floor, before anything is corrected", "channel", "floor"),
    ("the bias correction", "floor", "bias"),
    ("the weight correction on top of it", "bias", "both"),
    ("the spread on top of both", "both", "spread"),
    ("the ramp in place of half of the start", "spread", "ramp"),
    ("floor, spread and ramp together, with everything corrected", "above", "ramp"),
    ("the gate on rows held back", "ungated", "ramp"),
    ("starting from a quarter of the threshold instead of rest", "rest", "ramp"),
    ("starting from half the threshold instead of rest, for plain IF", "if-rest", "if"),
    ("a start of its own for every channel of plain IF", "if", "if-start"),
    ("a second spike a step", "one", "ramp"),
    ("two settle steps for one signed spike a step", "one", "settle"),
    ("neurons without unevenness (graded) instead of two signed spikes a step", "ramp", "graded"),
    ("the fine skip", "ramp", "fine"),
)
"""What a part of the conversion is called, and the settings without and with it."""


def earned(found: Found, network: str, timesteps: int) -> str:
    """Say in words how many points each part earns for one network at one T."""
    known = choices.known()
    words = []
    for part, without, given in EARNED:
        before, after = (found.get(network, known[f"a{timesteps}-{name}"]) for name in (without, given))
        if before is None or after is None or _same(before, after):
            continue
        words.append(f"{part} {100 * (after['top1'] - before['top1']):+.2f}")
    return f"At T = {timesteps}, in points: {'; '.join(words)}.\n" if words else ""


def _same(before: Row, after: Row) -> bool:
    """Whether a part changes nothing: with one step there is no second spike and no time to settle."""
    return before["top1"] == after["top1"] and before["synops"] == after["synops"]


def ablation_table(found: Found, network: str, timesteps: int) -> str:
    """Return the ablation of one network at one T, of what was measured."""
    return _tried(found, network, choices.ablation(timesteps), f"T = {timesteps}")


def _tried(found: Found, network: str, settings: Sequence[Setting], words: str) -> str:
    """Return a table of some settings of one network, of what was measured."""
    lines = []
    for setting in settings:
        row = found.get(network, setting)
        if row is not None:
            lines.append(
                [
                    setting.label,
                    percent(row),
                    str(row["n"]),
                    row["payload"],
                    *_activity(row),
                    str(row["latency_steps"]),
                ]
            )
    if len(lines) < FEWEST_LINES:
        return ""
    head = [
        "setting",
        "top-1 %",
        "n",
        "payload",
        "events per neuron and step",
        "operations / MACs",
        "latency",
    ]
    return f"### {TITLES[network]}, {words}\n\n" + table(head, lines)


def _activity(row: Row) -> list[str]:
    return [f"{row['events_per_neuron_per_step']:.3f}", f"{row['synops'] / row['ann_macs']:.2f}"]


def binary_table(found: Found) -> str:
    """Return what unsigned binary spikes reach."""
    lines = [
        [
            setting.label,
            percent(row),
            str(row["n"]),
            row["payload"],
            *_activity(row),
            str(row["latency_steps"]),
        ]
        for setting in BINARY
        if (row := found.get(FIRST, setting)) is not None
    ]
    head = [
        "setting",
        "top-1 %",
        "n",
        "payload",
        "events per neuron and step",
        "operations / MACs",
        "latency",
    ]
    return table(head, lines) if lines else ""


def cost_table(found: Found) -> str:
    """Return time of conversion and operations of the main settings."""
    lines = [
        [title, setting.label, *_activity(row), f"{row['convert_cpu_seconds']:.0f} s"]
        for network, title in TITLES.items()
        for setting in MAIN
        if (row := found.get(network, setting)) is not None
    ]
    head = ["network", "setting", "events per neuron and step", "operations / MACs", "conversion, CPU time"]
    return table(head, lines) if lines else ""


def peer_table(found: Found, peers: Sequence[Row]) -> str:
    """Return other tools on the same rows and calibration images, and published figures marked as such."""
    steps = (1, 2, 4, 8, 16)
    lines = []
    names = dict.fromkeys((row["tool"], row["mode"]) for row in peers if row["network"] == FIRST)
    fewest = min((row["n"] for row in peers if row["network"] == FIRST), default=None)
    for tool, mode in names:
        by_step = {
            row["timesteps"]: row
            for row in peers
            if (row["network"], row["tool"], row["mode"]) == (FIRST, tool, mode)
        }
        first = next(iter(by_step.values()))
        cells = [percent(by_step[T]) if T in by_step else "" for T in steps]
        lines.append([f"{tool}, {mode}", first["payload"], str(first["n"]), *cells])
    for label, suffix in (
        ("snnc `balanced`", "ramp"),
        ("snnc `balanced` + fine skip", "fine"),
        ("snnc plain IF", "if"),
    ):
        known = choices.known()
        rows = [found.get(FIRST, known[f"a{T}-{suffix}"], fewest) for T in steps]
        if any(rows):
            first = next(row for row in rows if row is not None)
            lines.append([label, first["payload"], str(first["n"]), *(percent(r) if r else "" for r in rows)])
    for label, ann, figures in PUBLISHED:
        cells = [f"{figures[T]:.2f}" if T in figures else "" for T in steps]
        lines.append([f"published: {label}, ANN {ann}", "binary", "10,000", *cells])
    return table(["tool", "payload", "n", *(f"T={T}" for T in steps)], lines)
