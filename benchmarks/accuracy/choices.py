"""What benchmarks/accuracy/measure.py measures: pipelines by name, and the tables that they form."""

from __future__ import annotations

from dataclasses import dataclass

FRONT = "fold-batchnorm,exact-max-pool,compose-linear,rectify-linear"
PLAIN = "init-membrane,quantise-weights"
PLAIN_BACK = "init-membrane,compensate,quantise-weights"
START = "init-membrane{fraction=0.25}"
BACK = f"{START},compensate{{spread=0.7,ramp=true}},quantise-weights"
FROM_REST = BACK.removeprefix(f"{START},")
RANGE = "clip-activations{floor=true}"
TWO = "dual-threshold{spikes-per-step=2}"


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to convert.

    Attributes:
        name: unique.
        label: for the tables.
        timesteps: T.
        pipeline: text of the passes; without `quantise-weights` the network stays in float32.
    """

    name: str
    label: str
    timesteps: int
    pipeline: str

    @property
    def precision(self) -> str:
        """In which the network runs."""
        return "int8" if "quantise-weights" in self.pipeline else "float32"


def made(name: str, label: str, timesteps: int, neuron: str, back: str = BACK, clip: str = RANGE) -> Setting:
    """Return a setting with the usual front."""
    return Setting(name, label, timesteps, f"{FRONT},{clip},lower,{neuron},{back}")


def compensated(options: str) -> str:
    """Return the usual end of a pipeline with other options of the compensation."""
    return f"init-membrane,compensate{options},quantise-weights"


FINE = f"fine-skip,{BACK}"
FIFTEEN = "clip-activations{levels=15,floor=true}"
FIFTEEN_ABOVE = "clip-activations{levels=15}"
ABOVE = "clip-activations"
"""Clipped from above only."""

MAIN = (
    made("t1", "T=1 unary", 1, "dual-threshold"),
    made("t1-fine", "T=1 unary + fine skip", 1, "dual-threshold", FINE),
    made("t2", "T=2, two spikes a step", 2, TWO),
    made("t2-fine", "T=2 + fine skip", 2, TWO, FINE),
    made("t4", "T=4, two spikes a step", 4, TWO),
    made("t4-fine", "T=4 + fine skip", 4, TWO, FINE),
    made("t8", "T=8, two spikes a step", 8, TWO),
    made("t1-n4", "T=1, n=4 (M=15)", 1, "multi-threshold", PLAIN_BACK, FIFTEEN),
)
"""The columns of the main table."""

FINE_63 = f"fine-skip{{levels=63}},{PLAIN_BACK}"
ONE_STEP = made("t1-n4-fine", "T=1, n=4 + fine skip (`one-step`)", 1, "multi-threshold", FINE_63, FIFTEEN)
"""15 levels in one step, 63 on identity branches."""

TWO_LEVELS = "clip-activations{levels=2,floor=true}"
MIXED = "clip-activations{levels=2,share=0.5,floor=true}"
SPREAD_BACK = compensated("{spread=0.7}")
LOW_LATENCY = (
    *(
        made(f"t{T}-two", f"T={T}, two levels", T, "dual-threshold", SPREAD_BACK, TWO_LEVELS)
        for T in (1, 2, 4)
    ),
    *(
        made(
            f"t{T}-two-fine",
            f"T={T}, two levels + fine skip (`low-latency`)",
            T,
            "dual-threshold",
            f"fine-skip,{SPREAD_BACK}",
            TWO_LEVELS,
        )
        for T in (1, 2, 4)
    ),
    *(made(f"t{T}-mixed", f"T={T}, `balanced`, mixed levels", T, TWO, clip=MIXED) for T in (2, 4)),
    ONE_STEP,
)
"""Spikes of two levels, everywhere or where they matter most; and of many, in one step."""

FIFTEEN_TRIED = (
    MAIN[-1],
    made("n4-plain", "without floor, nothing fitted", 1, "multi-threshold", PLAIN, FIFTEEN_ABOVE),
    made("n4-above", "without floor", 1, "multi-threshold", PLAIN_BACK, FIFTEEN_ABOVE),
    made("n4-bias", "bias alone", 1, "multi-threshold", compensated("{weights=false}"), FIFTEEN),
    made("n4-spread", "without floor, + spread", 1, "multi-threshold", BACK, FIFTEEN_ABOVE),
    made("n4-start", "+ start", 1, "multi-threshold", compensated("{start=true}"), FIFTEEN),
    made("n4-scale", "+ scale", 1, "multi-threshold", compensated("{scale=true}"), FIFTEEN),
    ONE_STEP,
)
"""What was tried with 15 levels in one step."""

BINARY = (
    made("if4", "T=4, plain IF", 4, "init-membrane{fraction=0.5}", PLAIN_BACK, ABOVE),
    made("if8", "T=8, plain IF", 8, "init-membrane{fraction=0.5}", PLAIN_BACK, ABOVE),
    made(
        "barrier4", "T=4, plain IF, layerwise schedule", 4, "set-schedule{kind=layerwise}", PLAIN_BACK, ABOVE
    ),
    made("graded4", "T=4, graded neurons, otherwise as plain IF", 4, "graded", PLAIN_BACK, ABOVE),
)
"""Unsigned binary spikes, and the graded network that the layerwise schedule must equal."""

FITTED = "compensate,quantise-weights"
SETTLED = "dual-threshold,set-schedule{settle-steps=2}"
ABLATION_STEPS = (1, 2, 4, 8, 16)


def ablation(timesteps: int) -> tuple[Setting, ...]:
    """Return the parts of the conversion, each added to the one before, and the neurons."""
    T = timesteps
    percentile = "clip-activations{method=percentile,granularity=layer}"
    layer = "clip-activations{granularity=layer}"

    return (
        made(f"a{T}-p999", "99.9th percentile per layer", T, TWO, PLAIN, percentile),
        made(f"a{T}-layer", "least squares per layer", T, TWO, PLAIN, layer),
        made(f"a{T}-channel", "least squares per channel", T, TWO, PLAIN, ABOVE),
        made(f"a{T}-float", "the same in float32", T, TWO, "init-membrane", ABOVE),
        made(f"a{T}-floor", "+ floor", T, TWO, PLAIN),
        made(f"a{T}-bias", "+ bias", T, TWO, compensated("{weights=false}")),
        made(f"a{T}-weights", "+ weights, without bias", T, TWO, compensated("{bias=false}")),
        made(f"a{T}-both", "+ weights + bias", T, TWO, compensated("")),
        made(f"a{T}-spread", "+ spread", T, TWO, compensated("{spread=0.7}")),
        made(f"a{T}-ramp", "+ ramp (`balanced`)", T, TWO),
        made(f"a{T}-above", "`balanced` without floor, spread and ramp", T, TWO, PLAIN_BACK, ABOVE),
        made(f"a{T}-start", "`balanced` + start", T, TWO, BACK.replace("spread", "start=true,spread")),
        made(f"a{T}-scale", "`balanced` + scale", T, TWO, BACK.replace("spread", "scale=true,spread")),
        made(
            f"a{T}-ungated",
            "`balanced` without the gate",
            T,
            TWO,
            BACK.replace("spread", "gated=false,spread"),
        ),
        made(f"a{T}-rest", "`balanced` from rest, all by the ramp", T, TWO, FROM_REST),
        made(f"a{T}-if", "plain IF", T, "init-membrane", PLAIN_BACK, ABOVE),
        made(
            f"a{T}-if-rest", "plain IF from rest, v(0) = 0", T, "init-membrane{fraction=0.0}", FITTED, ABOVE
        ),
        made(f"a{T}-if-start", "plain IF + start", T, "init-membrane", compensated("{start=true}"), ABOVE),
        made(f"a{T}-one", "one signed spike a step", T, "dual-threshold"),
        made(f"a{T}-settle", "one signed spike a step, 2 settle steps", T, SETTLED),
        made(f"a{T}-graded", "graded", T, "graded"),
        made(f"a{T}-fine", "`balanced` + fine skip", T, TWO, FINE),
        Setting(f"a{T}-paper", "`paper`", T, f"{FRONT},{layer},lower,dual-threshold,{PLAIN}"),
    )


LEARNED_STEPS = (1, 2, 4)
LEARNED = """All with 2,000 unlabelled images. Error compensation I clips from above and corrects layer by
layer. `balanced` adds the floor, a second threshold that is learned from activations in closed form, gives
fitted currents their spread back, and lets part of the start arrive with the bias; from rest, all of it
(`--set init-membrane.fraction=0`). With mixed levels
(`clip-activations{levels=2,share=0.5}`) the layers whose rounding alone moves the answers most, up to half
of the operations, send up to two levels a step that all count, where the others send a second spike only to
catch up. `learn` searches with the whole pipeline in the loop; `activity=1` puts a price on operations;
`layer` fits the thresholds of each layer to its own error. Gains are paired, on the same rows.
"""


def learned(timesteps: int) -> tuple[Setting, ...]:
    """Return error compensation I and what is compared with it: thresholds learned in four ways."""
    T = timesteps

    def searched(name: str, label: str, options: str) -> Setting:
        back = f"{START},learn-thresholds{options},{BACK.removeprefix(f'{START},')}"
        return made(f"l{T}-{name}", label, T, TWO, back)

    return (
        made(f"l{T}-above", "error compensation I", T, TWO, PLAIN_BACK, ABOVE),
        made(f"l{T}-balanced", "`balanced`", T, TWO),
        made(f"l{T}-rest", "`balanced` from rest", T, TWO, FROM_REST),
        made(f"l{T}-mixed", "`balanced`, mixed levels", T, TWO, clip=MIXED),
        searched("learn", "`learn`", ""),
        searched("activity", "`learn`, `activity=1`", "{activity=1.0}"),
        searched("layer", "`layer`", "{objective=layer}"),
    )


def known() -> dict[str, Setting]:
    """Return every setting by name."""
    steps = [setting for T in ABLATION_STEPS for setting in ablation(T)]
    return {setting.name: setting for setting in (*MAIN, *LOW_LATENCY, *FIFTEEN_TRIED, *BINARY, *steps)}
