"""docs/performance.md and its picture, from what benchmarks/speed/measure.py has measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.common.tables import write_between

Row = dict[str, Any]
Table = list[str]

PICTURE = "pictures/roofline.svg"
COLOURS = {"events": "#0072B2", "bytes": "#D55E00", "tiles": "#009E73"}
ROOFS = {"bytes": "byte_products", "tiles": "tile_products"}
MARKERS = {"events": "o", "bytes": "s", "tiles": "^"}

TARGETS = {
    ("resnet18, 15%", 1): {1: 0.13, 2: 0.21, 4: 0.35, 8: 0.85},
    ("resnet18, 20%", 1): {4: 0.55},
    ("resnet18, 30%", 1): {4: 0.75},
    ("resnet18, 15%", 64): {1: 0.2, 2: 0.32, 4: 0.55, 8: 1.0},
    ("vgg16, 15%", 1): {1: 0.2, 2: 0.3, 4: 0.5, 8: 0.95},
    ("mobilenet, 15%", 1): {1: 0.5, 2: 0.7, 4: 1.0},
    ("chenyaofo_cifar10_resnet20", 1): {1: 0.3, 2: 0.5, 4: 0.95, 8: 3.5},
    ("chenyaofo_cifar10_resnet20", 64): {1: 0.22, 2: 0.45, 4: 0.9},
    ("akamaster_resnet56_legacy", 1): {1: 0.3, 2: 0.5, 4: 0.95, 8: 3.5},
    ("akamaster_resnet56_legacy", 64): {1: 0.22, 2: 0.45, 4: 0.9},
}
"""Ratio to onnxruntime in float32, by network, batch and T; one thread."""

WHY = """The targets were found in experiments on a processor with AVX-512 VNNI and VBMI2. Where one is
missed, the roofs and profiles below show where the time goes: listing spikes and updating neurons come on top
of the arithmetic, negative spikes have lists of their own, and with few steps the weights of the last
layers serve a handful of events; the source, which has its turn in between, leaves none of them in a
cache, so that every round reads them from memory."""
"""Said below the table of targets where one is missed."""

PEER_TARGET = 15
"""How many times faster than other simulators at T = 4."""

MEMORY_TARGET = 500
"""Megabytes above the interpreter."""

INT8_TARGETS = {"resnet18, 15%": {1: 0.5, 2: 0.8, 4: 1.25}, "resnet18, M = 15": {1: 1.0}}
"""Ratio to onnxruntime in int8, by network and T; batch 1, one thread."""


def report(rows: Sequence[Row], page: Path, functions: Sequence[Row] = (), machine: str = "") -> None:
    """Write what is measured into the page; of rows for the same thing the last one counts.

    What stands in front of and behind the marks ``speed`` is written by hand, and stays.

    Args:
        rows: of whole networks.
        page: the file.
        functions: of single functions, by benchmarks/speed/functions.py.
        machine: what the name of the processor begins with that the page is about; by default the one that
            was measured last. Of others it has one table of ratios.

    Raises:
        ValueError: nothing was measured on such a machine.
    """
    about = [row for row in rows if row["machine"].startswith(machine)]
    if not about:
        known = ", ".join(dict.fromkeys(row["machine"] for row in rows))
        raise ValueError(f"nothing was measured on a machine called {machine!r}; measured: {known or 'none'}")
    newest = _newest(about)
    text = [_head(newest), *_targets(newest), *_grid(newest, "spikes"), *_grid(newest, "counts")]
    text += [
        *_floats(newest),
        *functions_table(functions),
        *_peers(newest),
        *_others([row for row in rows if row["machine"] != newest[0]["machine"]]),
        *_memory(newest),
        *_roof(newest, page.parent / PICTURE),
        *_profiles(newest),
    ]
    write_between(page, "speed", "\n".join(text).rstrip() + "\n")


def _newest(rows: Sequence[Row]) -> list[Row]:
    """Keep the rows of the machine and the version that was measured last."""
    last = rows[-1]
    fitting = [row for row in rows if all(row[key] == last[key] for key in ("code", "machine"))]
    unique: dict[tuple[object, ...], Row] = {}
    for row in fitting:
        names = ("network", "timesteps", "batch", "threads", "against", "mode", "profile", "limits", "memory")
        key = tuple(str(row.get(name)) for name in names)
        if "limits" in row:
            key = ("limits",)
        unique[key] = row
    return list(unique.values())


def _compared(rows: Sequence[Row], mode: str = "spikes") -> list[Row]:
    return [row for row in rows if row.get("against") == "onnxruntime" and row["mode"] == mode]


def _head(rows: Sequence[Row]) -> str:
    timed = [row for row in rows if "network" in row]
    return f"""Written by `python -m benchmarks.speed` from `benchmarks/measured/speed.jsonl`:
{len(timed)} comparisons on *{rows[0]["machine"]}*, simulator sources `{rows[0]["code"]}`. Only the
rows shown were run; the same command without options runs T = 1 to 32, batches of 1 and 64, and one and two
threads for all networks.

The spiking network and its source take turns in one process, each on the same number of threads; a ratio is
that of the shortest rounds, and below 1 the spiking network is the faster one. Its time includes quantising
the input. The threads of onnxruntime spin while it runs, and stop when its turn ends. A run on one thread is
timed by the time in which it had a core, one on several by the clock on the wall. The machine is a virtual
one: what its neighbours do to caches and clocks shows in the medians and the 90th percentiles. *Density* is
the share of neurons that send anything in a step.
Whatever the plan and the number of threads, the spikes are the reference's, bit for bit.

- **resnet18, vgg16, mobilenet, resnet20** (32x32 images, 10 classes) have **random weights** and one
  threshold per population, set such that the stated share of its neurons fires in a step; neurons are signed
  and unary, and about a quarter of their events is negative. `M = 15`: spikes of up to 15 levels.
- **zoo:fashion-resnet, chenyaofo_cifar10_resnet20, akamaster_resnet56_legacy** are trained networks,
  converted with the default preset for T = 4 on 1,000 images; other T are runs of the same network. The
  density is their own.
- *int8* is the same source, quantised by onnxruntime (QDQ, per channel).
- In mode `spikes` every spike of every step exists. `counts` is one pass over spike counts, offered where it
  is proved to give the same result; it has a table of its own and stands for nothing else.
"""


def _targets(rows: Sequence[Row]) -> Table:
    text = [
        "## Targets",
        "",
        "| network | batch | T | density | ratio to fp32 | target | |",
        "|---|---|---|---|---|---|---|",
    ]
    found = {
        (row["network"], row["batch"], row["timesteps"]): row
        for row in _compared(rows)
        if row["threads"] == 1
    }
    for (network, batch), wanted in TARGETS.items():
        for timesteps, target in wanted.items():
            line = _target(network, batch, timesteps, found.get((network, batch, timesteps)), "ratio", target)
            text.append(line)
    for network, wanted in INT8_TARGETS.items():
        for timesteps, target in wanted.items():
            row = found.get((network, 1, timesteps))
            text.append(_target(network, 1, timesteps, row, "ratio_int8", target, ", against int8"))
    for row in rows:
        if row.get("times_faster") and row["batch"] == 1:
            verdict = "met" if row["times_faster"] >= PEER_TARGET else "missed"
            text.append(
                f"| {row['network']}, times faster than {row['against']} | 1 | {row['timesteps']} "
                f"| {row['density']:.1%} | {row['times_faster']:.1f} | {PEER_TARGET} | {verdict} |"
            )
    missed = any("missed" in line for line in text)
    return [*text, "", *([WHY, ""] if missed else [])]


def _target(
    network: str, batch: int, timesteps: int, row: Row | None, field: str, target: float, words: str = ""
) -> str:
    """Return the line of a target."""
    start = f"| {network}{words} | {batch} | {timesteps}"
    if row is None:
        return f"{start} | | not run | {target} | |"
    verdict = "met" if row[field] <= target else f"missed by {row[field] / target - 1:.0%}"
    return f"{start} | {row['density']:.1%} | {row[field]:.2f} | {target} | {verdict} |"


def _grid(rows: Sequence[Row], mode: str) -> Table:
    chosen = _compared(rows, mode)
    if not chosen:
        return []
    title = "Against onnxruntime" if mode == "spikes" else "One pass over spike counts, against onnxruntime"
    text = [
        f"## {title}",
        "",
        "Milliseconds per image: shortest round, and in brackets the median and the 90th percentile.",
        "",
        "| network | T | batch | threads | density | SNN | fp32 | int8 | to fp32 | to int8 | GSynOps/s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(chosen, key=lambda r: (r["network"], r["batch"], r["threads"], r["timesteps"])):
        snn = row["snn"]
        text.append(
            f"| {row['network']} | {row['timesteps']} | {row['batch']} | {row['threads']} "
            f"| {row['density']:.1%} | {snn['minimum']:.3g} ({snn['median']:.3g}, {snn['p90']:.3g}) "
            f"| {row['fp32']['minimum']:.3g} | {row['int8']['minimum']:.3g} "
            f"| **{row['ratio']:.2f}** | {row['ratio_int8']:.2f} | {row['giga_synops_per_second']:.3g} |"
        )
    return [*text, ""]


def _floats(rows: Sequence[Row]) -> Table:
    chosen = _compared(rows, "float32")
    if not chosen:
        return []
    text = [
        "## In float32, against onnxruntime on a batch T times as large",
        "",
        "Networks that are not quantised (`--precision float32`), densely, layer by layer over all steps;",
        "neurons that integrate and fire come on top of the multiplications. Milliseconds per image.",
        "",
        "| network | T | batch | threads | density | SNN | fp32, T-fold | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    text += [
        f"| {row['network']} | {row['timesteps']} | {row['batch']} | {row['threads']} "
        f"| {row['density']:.1%} | {row['snn']['minimum']:.3g} | {row['fp32']['minimum']:.3g} "
        f"| **{row['ratio']:.2f}** |"
        for row in sorted(chosen, key=lambda r: (r["network"], r["batch"], r["threads"], r["timesteps"]))
    ]
    return [*text, ""]


def functions_table(rows: Sequence[Row]) -> Table:
    """Return the section of single functions; of rows for the same one the last one counts."""
    if not rows:
        return []
    newest = {row["function"]: row for row in rows if row["code"] == rows[-1]["code"]}
    text = [
        "## Functions, against the same node of onnxruntime in float32",
        "",
        "`python -m benchmarks.speed.functions`: one node at T = 1 with 255 levels, on one thread, batch of",
        "4, in turn with a network of onnxruntime that consists of this node. Nanoseconds a value, of the",
        f"shortest round; simulator sources `{rows[-1]['code']}`. Step functions are looked up, sixteen",
        "neurons at a time. The target is a ratio of at most 2.",
        "",
        "| function | SNN | fp32 | ratio |",
        "|---|---|---|---|",
    ]
    for name, row in newest.items():
        ours, theirs = row["snn_ns"], row["fp32_ns"]
        text.append(f"| {name} | {ours:.2f} | {theirs:.2f} | **{ours / theirs:.2f}** |")
    return [*text, ""]


def _peers(rows: Sequence[Row]) -> Table:
    chosen = [row for row in rows if "times_faster" in row]
    if not chosen:
        return []
    text = [
        "## Against other simulators",
        "",
        "The same shapes, one thread, each peer in its own environment and process, which takes its turns;",
        "float32 integrate-and-fire neurons. They run every layer densely, whatever the density.",
        "",
        "| network | T | batch | density | this, ms per image | peer | ms per image | times faster |",
        "|---|---|---|---|---|---|---|---|",
    ]
    text += [
        f"| {row['network']} | {row['timesteps']} | {row['batch']} | {row['density']:.1%} "
        f"| {row['snn']['minimum']:.3g} | {row['against']} | {row['peer']['minimum']:.3g} "
        f"| **{row['times_faster']:.1f}** |"
        for row in chosen
    ]
    return [*text, ""]


STEPS = (1, 2, 4, 8)
"""T in the table of other processors."""


def _others(rows: Sequence[Row]) -> Table:
    """Return the ratios to float32 and int8 on processors other than that of the page."""
    text: Table = []
    for machine in dict.fromkeys(row["machine"] for row in rows):
        newest = _newest([row for row in rows if row["machine"] == machine])
        chosen = [row for row in _compared(newest) if row["threads"] == 1 and row["timesteps"] in STEPS]
        if not chosen:
            continue
        text += [
            f"### {machine}, sources `{newest[0]['code']}`",
            "",
            f"| network | batch | {' | '.join(f'T = {T}' for T in STEPS)} |",
            "|---|---|" + "---|" * len(STEPS),
        ]
        for network, batch in sorted({(row["network"], row["batch"]) for row in chosen}):
            found = {r["timesteps"]: r for r in chosen if (r["network"], r["batch"]) == (network, batch)}
            cells = [
                f"{found[T]['ratio']:.2f} / {found[T]['ratio_int8']:.2f}" if T in found else "" for T in STEPS
            ]
            text.append(f"| {network} | {batch} | {' | '.join(cells)} |")
        text.append("")
    if not text:
        return []
    said = "Time over that of onnxruntime in float32 / in int8, one thread, by the same command."
    return ["## On other processors", "", said, "", *text]


def _memory(rows: Sequence[Row]) -> Table:
    row = next((row for row in rows if "memory" in row), None)
    if row is None:
        return []
    above = row["peak_mb"] - row["bare_mb"]
    verdict = "below" if above < MEMORY_TARGET else "beyond"
    return [
        "## Memory",
        "",
        f"{row['memory']}, one thread: a peak of {row['peak_mb']} MB, {above} MB above a bare interpreter,",
        f"{verdict} the target of {MEMORY_TARGET} MB. That includes Numba, ONNX, and making the network.",
        "",
    ]


def _roof(rows: Sequence[Row], picture: Path) -> Table:
    limits = next((row for row in rows if "limits" in row), None)
    profiles = [row for row in rows if "profile" in row]
    if limits is None or not profiles:
        return []
    _draw(limits, profiles, picture)
    sparse = limits["floats"] / limits["event_l2"]
    products = max(limits["byte_products"], limits.get("tile_products", 0))
    dense = limits["floats"] / max(products, 1e-9)
    in_tiles = (
        [f"| the same in tile registers | {limits['tile_products']:.0f} |"]
        if limits.get("tile_products")
        else []
    )
    return [
        "## The machine's limits",
        "",
        "Measured by loops that do nothing else (`benchmarks/speed/limits.py`), one core:",
        "",
        "| what | thousand millions a second |",
        "|---|---|",
        f"| weights added by events, weights in the first-level cache | {limits['event_l1']:.0f} |",
        f"| the same, second level | {limits['event_l2']:.0f} |",
        f"| the same, behind it | {limits['event_l3']:.0f} |",
        f"| multiply-accumulates of bytes | {limits['byte_products']:.0f} |",
        *in_tiles,
        f"| multiply-accumulates in float32, what the source runs on | {limits['floats']:.0f} |",
        "",
        "A layer at density d and T steps adds d T weights for every multiplication of its source. At the",
        "roof of the second-level cache, the ratio to a source at its own roof would be",
        f"{sparse:.2f} d T by events and {dense:.2f} T densely, before spikes are listed and neurons fire.",
        "",
        f"![Rate of each layer against its density, under the roofs]({PICTURE})",
        "",
    ]


def _terms(profile: Row) -> list[tuple[str, str, float, float, float]]:
    """Return (population, kernel, density, synaptic, dense operations) of layers with one heavy kernel."""
    found = []
    for layer in profile["plan"]["layers"]:
        weighted = [term for term in layer["terms"] if term["name"] in profile["work"]]
        heavy = [term for term in weighted if not term["kernel"].startswith("channel")]
        if len(heavy) != 1 or heavy[0]["density"] is None:
            continue
        work = profile["work"][heavy[0]["name"]]
        kernel = heavy[0]["kernel"].split(",")[0].removeprefix("step_")  # under the same roof
        found.append((layer["name"], kernel, heavy[0]["density"], work["synops"], work["dense"]))
    return found


def _draw(limits: Row, profiles: Sequence[Row], path: Path) -> None:
    """Draw synaptic operations a second of every layer against its density."""
    mpl.rcParams.update(
        {"svg.hashsalt": "snnc", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    )
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.add_subplot()
    drawn = set()
    for profile in profiles:
        for name, kernel, density, synops, _ in _terms(profile):
            if kernel in COLOURS:
                axes.plot(
                    density,
                    synops / profile["seconds"][name] / 1e9,
                    MARKERS[kernel],
                    color=COLOURS[kernel],
                    alpha=0.6,
                    label=None if kernel in drawn else f"layers run by {kernel}",
                )
                drawn.add(kernel)
    axes.axhline(limits["event_l2"], color=COLOURS["events"], label="roof of events, second-level cache")
    axes.axhline(limits["event_l3"], color=COLOURS["events"], linestyle=":", label="the same, behind it")
    shares = [0.01 * k for k in range(51)]
    roof = [share * limits["byte_products"] for share in shares]
    axes.plot(shares, roof, color=COLOURS["bytes"], label="roof of dense bytes, of which only spikes count")
    axes.set_xlabel("share of neurons that fire in a step")
    axes.set_ylabel("synaptic operations, 10⁹ a second")
    axes.set_xlim(0, 0.5)
    axes.set_ylim(0)
    axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def _profiles(rows: Sequence[Row]) -> Table:
    limits = next((row for row in rows if "limits" in row), None)
    text: Table = []
    for profile in rows:
        if "profile" not in profile or limits is None:
            continue
        total = sum(profile["seconds"].values())
        text += [
            f"### Profile of {profile['profile']}, T = {profile['timesteps']}, one image, one thread",
            "",
            "| population | microseconds | kernel | density | share of its roof |",
            "|---|---|---|---|---|",
        ]
        shares = {name: (kernel, synops, dense) for name, kernel, _, synops, dense in _terms(profile)}
        for layer in profile["plan"]["layers"]:
            seconds = profile["seconds"][layer["name"]]
            kernels = "; ".join(term["kernel"] for term in layer["terms"])
            known = [term["density"] for term in layer["terms"] if term["density"] is not None]
            density = f"{known[0]:.1%}" if known else ""
            share = ""
            if layer["name"] in shares:
                kernel, synops, dense = shares[layer["name"]]
                if kernel == "events":
                    share = f"{synops / seconds / 1e9 / limits['event_l2']:.0%}"
                elif limits.get(ROOFS.get(kernel, "")):
                    share = f"{dense / seconds / 1e9 / limits[ROOFS[kernel]]:.0%}"
            text.append(f"| {layer['name']} | {seconds * 1e6:.0f} | {kernels} | {density} | {share} |")
        text += [f"| all | {total * 1e6:.0f} | | | |", ""]
    if text:
        text = [
            "## Profiles",
            "",
            "What every population takes with its synapses. The share is that of the arithmetic's roof;",
            "listing spikes and updating neurons take the rest.",
            "",
            *text,
        ]
    return text
