"""One trial of the ablations: a run of `snnc tune`, and the judgement of what it made.

A module of its own, because a new process finds no function of a package that is run as a program.
"""

from __future__ import annotations

import resource
import time
from typing import Any

from benchmarks.learning.trials import Trial
from snnc.analysis.evaluation import evaluate
from snnc.backends import load_simulator
from snnc.compiler import Options, convert
from snnc.data.preprocessing import Preprocessing
from snnc.training.tuning import tune

Row = dict[str, Any]


def measure(task: Row, trial: Trial) -> Row:
    """Run one trial, and judge what it made.

    Args:
        task: network, rows, epochs, threads and checkpoints.
        trial: what is learned.
    """
    train, test = task["train"], task["test"]
    preprocessing = None if task["preprocessing"] is None else Preprocessing.from_dict(task["preprocessing"])
    options = Options(
        trial.timesteps if not trial.learns else None,
        trial.preset,
        settings=dict(trial.settings),
        threads=task["threads"],
    )
    begun, used = time.perf_counter(), time.process_time()
    if trial.learns:
        found = tune(
            task["network"],
            *train,
            timesteps=trial.timesteps,
            options=options,
            preprocessing=preprocessing,
            checkpoints=task["checkpoints"],
            epochs=task["epochs"],
            losses=dict(trial.losses),
            finish=trial.finish,
            rounded=trial.rounded,
            augment=task["augment"],
            batch=task["batch"],
        )
        artefact, result = found.artefact, found.results[trial.timesteps].as_dict()
        del result["curve"]
    else:
        artefact, result = (
            convert(task["network"], train[0][:1000], options, preprocessing=preprocessing).artefact,
            {},
        )
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    judged = evaluate(
        artefact.graph, artefact.encode, *test, simulator=load_simulator("numba", task["threads"])
    ).as_dict()
    judged.pop("layers", None)
    return {
        "trial": trial.name,
        "label": trial.label,
        "loss_weights": dict(trial.losses),
        "finish": trial.finish,
        "epochs": task["epochs"],
        **judged,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used, 1),
        "memory_mib": round(memory),
        "tuned": result,
    }
