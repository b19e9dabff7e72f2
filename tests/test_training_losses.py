"""Every loss against a value computed by hand."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
import math
from typing import Any

import pytest

from snnc.metrics.task import Task
from snnc.training.recipe import LOSSES

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed (extra snnc[train])", allow_module_level=True)

import torch
from torch import Tensor

from snnc.training.losses import TABLE, Batch, attention, hta_kl, total
from snnc.training.operators import Run

LN3 = math.log(3)


def tensor(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def batch(student: Run, source: Run, **changes: Any) -> Batch:
    given: dict[str, Any] = {
        "labels": {},
        "tasks": dict.fromkeys(student.outputs, Task.CLASSES),
        "layers": tuple(student.kept),
        "steps": (),
        "prices": {},
        "variances": {},
        "temperature": 1.0,
        "head": 0.9,
    }
    return Batch(student, source, **{**given, **changes})


def answers(*scores: Any) -> Run:
    return Run({"y": tensor(*scores)}, {}, {})


def test_the_table_holds_every_loss_that_can_be_named() -> None:
    assert TABLE.keys() == LOSSES.keys()


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (1.0, 0.5 * LN3),  # p = (3/4, 1/4), q = (1/4, 3/4)
        (2.0, 4 * (math.sqrt(3) - 1) / (math.sqrt(3) + 1) * LN3 / 2),  # p = (sqrt 3, 1) / (1 + sqrt 3)
    ],
)
def test_kl(temperature: float, expected: float) -> None:
    given = batch(answers([0.0, LN3]), answers([LN3, 0.0]), temperature=temperature)
    assert float(TABLE["kl"](given)) == pytest.approx(expected)
    same = batch(answers([0.3, 1.0]), answers([1.3, 2.0]), temperature=temperature)
    assert float(TABLE["kl"](same)) == pytest.approx(0)


def test_kl_of_one_score_is_that_of_yes_and_no() -> None:
    given = batch(answers([-LN3]), answers([LN3]), tasks={"y": Task.BINARY})
    assert float(TABLE["kl"](given)) == pytest.approx(0.5 * LN3)


def test_hta_kl_takes_likely_classes_from_the_source_and_unlikely_ones_from_the_network() -> None:
    p, q = (0.7, 0.2, 0.1), (0.5, 0.3, 0.2)
    student, source = ([math.log(each) for each in values] for values in (q, p))
    # The head is the first class: |p - q| is 0.2 there, and 0.1 + 0.1 in the tail, so both count half.
    forward = 0.7 * math.log(0.7 / 0.5)
    backward = 0.3 * math.log(0.3 / 0.2) + 0.2 * math.log(0.2 / 0.1)
    given = batch(answers(student), answers(source), head=0.6)
    assert float(TABLE["hta-kl"](given)) == pytest.approx((forward + backward) / 2)
    # With 0.8 the second class is in the head, too: 0.3 of the difference there, 0.1 in the tail.
    forward += 0.2 * math.log(0.2 / 0.3)
    backward -= 0.3 * math.log(0.3 / 0.2)
    given = batch(answers(student), answers(source), head=0.8)
    assert float(TABLE["hta-kl"](given)) == pytest.approx(0.75 * forward + 0.25 * backward)


def test_hta_kl_of_equal_answers_is_nothing_and_has_gradients() -> None:
    z = tensor([1.0, 0.0, -1.0]).requires_grad_()
    loss = hta_kl(z, z.detach().clone(), 2.0, 0.9)
    loss.backward()
    assert float(loss.detach()) == 0
    assert z.grad is not None
    assert bool(torch.isfinite(z.grad).all())


def test_squared_is_relative_to_the_variance() -> None:
    given = batch(
        answers([1.0, 2.0], [0.0, 0.0]),
        answers([0.0, 2.0], [0.0, 2.0]),
        tasks={"y": Task.REGRESSION},
        variances={"y": tensor(4.0)},
    )
    assert float(TABLE["squared"](given)) == pytest.approx((1 + 0 + 0 + 4) / 4 / 4)


def test_labels() -> None:
    given = batch(answers([0.0, LN3]), answers([9.0, 9.0]), labels={"y": torch.tensor([0])})
    assert float(TABLE["labels"](given)) == pytest.approx(math.log(4))
    given = batch(answers([LN3]), answers([0.0]), labels={"y": torch.tensor([1])}, tasks={"y": Task.BINARY})
    assert float(TABLE["labels"](given)) == pytest.approx(math.log(4 / 3))
    given = batch(
        answers([3.0], [1.0]),
        answers([0.0], [0.0]),
        labels={"y": tensor([1.0], [1.0])},
        tasks={"y": Task.REGRESSION},
        variances={"y": tensor(2.0)},
    )
    assert float(TABLE["labels"](given)) == pytest.approx(4 / 2 / 2)


def test_anytime_is_the_mean_over_the_steps() -> None:
    steps = (answers([0.0, 0.0]), answers([0.0, LN3]))
    given = batch(steps[1], answers([0.0, 0.0]), labels={"y": torch.tensor([1])}, steps=steps)
    assert float(TABLE["anytime"](given)) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    # Without labels the source's probabilities are wanted: a half and a half.
    given = batch(steps[1], answers([0.0, 0.0]), steps=steps)
    second = (math.log(4) + math.log(4 / 3)) / 2
    assert float(TABLE["anytime"](given)) == pytest.approx((math.log(2) + second) / 2)


def test_features_are_the_mean_of_the_layers_means() -> None:
    student = Run({}, {"a": tensor([1.0, 2.0]), "b": tensor([0.0])}, {})
    source = Run({}, {"a": tensor([1.0, 4.0]), "b": tensor([3.0])}, {})
    assert float(TABLE["features"](batch(student, source))) == pytest.approx((2 + 9) / 2)


def test_attention_compares_where_activations_are() -> None:
    # Q = (1 + 4, 4 + 0) and (9, 16): their cosine is 109 / sqrt(41 337).
    student, source = tensor([[[1.0, 2.0]], [[2.0, 0.0]]]), tensor([[[3.0, 0.0]], [[0.0, 4.0]]])
    expected = 2 - 2 * (5 * 9 + 4 * 16) / math.sqrt(41 * 337)
    assert float(attention(student, source)) == pytest.approx(expected)
    given = batch(Run({}, {"a": student}, {}), Run({}, {"a": 5 * source}, {}))
    assert float(TABLE["attention"](given)) == pytest.approx(expected)


def test_activity_is_spikes_times_their_fan_out() -> None:
    student = Run({}, {}, {"p": tensor([1.0, 2.0], [0.0, -1.0]), "q": tensor([1.0], [3.0])})
    prices = {"p": tensor(3.0, 5.0), "q": tensor(0.5)}
    given = batch(student, student, prices=prices)
    assert float(TABLE["activity"](given)) == pytest.approx((3 + 10 + 5) / 2 + (0.5 + 1.5) / 2)


def test_several_outputs_are_added_up_and_losses_weighted() -> None:
    student = Run({"a": tensor([0.0, LN3]), "b": tensor([1.0])}, {}, {})
    source = Run({"a": tensor([LN3, 0.0]), "b": tensor([3.0])}, {}, {})
    given = batch(
        student,
        source,
        tasks={"a": Task.CLASSES, "b": Task.REGRESSION},
        variances={"b": tensor(1.0)},
    )
    loss, parts = total(given, {"kl": 2.0, "squared": 0.25})
    assert float(loss) == pytest.approx(LN3 + 1)
    assert parts == pytest.approx({"kl": 0.5 * LN3, "squared": 4.0})
