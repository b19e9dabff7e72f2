"""Training from nothing: what is written is what was trained, and a run goes on to the same bits."""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import snnc
from snnc.cli import main
from snnc.cli.train import ARCHITECTURES as OFFERED
from snnc.cli.train import OPTIMISERS as OFFERED_OPTIMISERS
from snnc.compiler import Options, convert
from snnc.errors import InputError, UsageError
from snnc.ir.snn import IntegrateFire
from snnc.training.architectures import ARCHITECTURES
from snnc.training.course import OPTIMISERS, Course, training_recipe
from snnc.training.pixels import Pixels
from tests.onnx_models import Array

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed (extra snnc[train])", allow_module_level=True)

import torch

from snnc.training import stage as stages
from snnc.training.augmentation import mirrored
from snnc.training.pace import Pace
from snnc.training.straight_through import Levels
from snnc.training.train import PROPERTY, Trained, train

COURSE = Course(arch="tiny")
QUICK: dict[str, Any] = {
    "precision": "float32",
    "epochs": 6,
    "batch": 32,
    "held_back": 0.2,
    "rate": 1e-2,
    "rounded": 0.3,
}


def images(count: int = 200, side: int = 16) -> tuple[Array, Array]:
    """Stripes of three directions in noise."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, count)
    rows, columns = np.mgrid[:side, :side]
    stripes = np.stack([rows // 2 % 2, columns // 2 % 2, (rows + columns) // 2 % 2])
    x = 160 * stripes[y][..., None] + random.integers(0, 90, (count, side, side, 3))
    return x.astype(np.uint8), y


@pytest.fixture(scope="module")
def data() -> tuple[Array, Array]:
    return images()


@pytest.fixture(scope="module")
def trained(data: tuple[Array, Array]) -> Trained:
    return run(data)


def run(data: tuple[Array, Array], **changes: Any) -> Trained:
    given = {"course": COURSE, "threads": 1, **QUICK, **changes}
    return train("tiny", *data, **given)


def test_it_learns_and_says_how(trained: Trained) -> None:
    assert trained.measure.right is not None
    assert trained.measure.right.n == 40
    assert trained.measure.right.value > 0.6
    record = json.loads({each.key: each.value for each in trained.model.metadata_props}[PROPERTY])
    assert record == trained.record
    assert record["course"]["levels"] == 4
    assert (record["rows"], record["held_back"], record["equal_rows"]) == (160, 40, 40)
    assert [line["stage"] for line in record["curve"] if line["step"] == 0] == ["levels", "integers"]
    assert snnc.train is train


def test_the_spiking_network_answers_as_the_trained_one(
    trained: Trained, data: tuple[Array, Array], tmp_path: Path
) -> None:
    trained.save(tmp_path / "net.onnx")
    x = data[0].transpose(0, 3, 1, 2)
    network = snnc.convert(tmp_path / "net.onnx", x, timesteps=2, threads=1)
    held = np.arange(40) * 200 // 40
    found = network.evaluate(x[held], data[1][held])
    assert trained.measure.right is not None
    assert found.scores.top1 is not None
    assert found.scores.top1.hits == trained.measure.right.hits


def test_an_interrupted_run_goes_on_to_the_same_bits(
    trained: Trained, data: tuple[Array, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "CHECKPOINT_SECONDS", 0.0)
    given: Callable[..., Any] = stages.Stage.take
    left = 7

    def stopping(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return given(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(stages.Stage, "take", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(data, checkpoints=tmp_path)
    assert (tmp_path / "levels.pt").exists()
    resumed = run(data, checkpoints=tmp_path)
    assert resumed.model.SerializeToString() == trained.model.SerializeToString()
    with pytest.raises(InputError, match="belongs to another run"):
        run(data, checkpoints=tmp_path, seed=1)


def test_bfloat16_and_minutes(data: tuple[Array, Array]) -> None:
    course = Course(arch="tiny", levels=1)
    found = run(data, course=course, precision="bfloat16", epochs=None, minutes=0.01)
    assert found.record["bfloat16"]
    assert found.measure.right is not None
    assert isinstance(run(data, precision="auto", epochs=0.2).record["bfloat16"], bool)
    assert not run(data, precision="auto", rounded=0.0, epochs=0.2).record["bfloat16"]


def test_a_teacher_of_pixels(trained: Trained, data: tuple[Array, Array]) -> None:
    halved = {"divide": 1.0}
    found = run(data, teacher=trained.model, teacher_preprocessing=halved, epochs=1)
    assert found.record["teacher"]
    assert set(found.record["curve"][1]["losses"]) == {"kl", "labels"}
    with pytest.raises(UsageError, match="gives 3 scores, and there are 4 classes"):
        run((data[0], np.concatenate([data[1][:-1], [3]])), teacher=trained.model)
    with pytest.raises(UsageError, match=r"takes \(3, 16, 16\), and the images are \(3, 20, 20\)"):
        run(images(60, 20), teacher=trained.model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"course": Course(arch="small")}, "the course is of 'small', not of 'tiny'"),
        ({"losses": {"kl": 1.0}}, "the loss kl needs a teacher"),
        ({"losses": {"features": 1.0}}, "the loss features does not train from nothing"),
        ({"epochs": None}, "say how long to tune"),
        ({"colour": 1}, "train takes no 'colour'"),
        ({"augment": ("flip", "alternate")}, "do the same"),
        ({"precision": "int8"}, "precision 'int8' is unknown"),
    ],
)
def test_options_that_make_no_sense(changes: dict[str, Any], message: str, data: tuple[Array, Array]) -> None:
    with pytest.raises(UsageError, match=message):
        run(data, **changes)


@pytest.mark.parametrize("arch", ["mobilenetv3", "vit"])
def test_smooth_activations_are_trained_in_floats(arch: str, tmp_path: Path) -> None:
    """Written as they are, resumed to the same bits, and converted to step functions."""
    data = images(60, 8)
    given: dict[str, Any] = {**QUICK, "epochs": 1, "threads": 1}
    found = train(arch, *data, **given)
    assert found.record["course"]["levels"] is None
    assert found.record["steps"] == [2, 0]
    again = train(arch, *data, checkpoints=tmp_path, **given)
    assert again.model.SerializeToString() == found.model.SerializeToString()
    assert train(arch, *data, minutes=0.01, **{**given, "epochs": None}).record["steps"][0] > 0
    passes = (
        "fold-batchnorm,exact-max-pool,compose-linear,rectify-linear,clip-activations{levels=15},lower,graded,"
        "init-membrane,quantise-weights"
    )
    rows = data[0].transpose(0, 3, 1, 2).astype(np.float32)
    made = convert(found.model.SerializeToString(), rows, Options(1, pipeline=passes, threads=1)).artefact
    assert any(node.breakpoints is not None for node in made.graph.of_type(IntegrateFire))
    with pytest.raises(UsageError, match=f"{arch} has smooth activations and is trained without levels"):
        Course(arch=arch, levels=4)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"arch": "lenet"}, "arch 'lenet' is unknown; known: small"),
        ({"levels": 0}, "levels must be a whole number from 1 to 255"),
        ({"levels": True}, "levels must be a whole number"),
        ({"smoothing": 1.0}, "smoothing must be a number from 0 to below"),
        ({"optimiser": "lion"}, "optimiser 'lion' is unknown; known: adam, sgd"),
    ],
)
def test_courses_that_make_no_sense(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Course(**{"arch": "tiny", **choices})


def test_images_that_are_none() -> None:
    x, y = images(60)
    with pytest.raises(InputError, match="training takes images of uint8 pixels"):
        Pixels.of(x.astype(np.float32), y, "it")
    with pytest.raises(InputError, match="comes without labels"):
        Pixels.of(x, None, "it")
    with pytest.raises(InputError, match="give one class number per image"):
        Pixels.of(x, y[:5], "it")
    with pytest.raises(InputError, match=r"hold -1 to"):
        Pixels.of(x, y - 1, "it")
    with pytest.raises(InputError, match="does not tell where its channels are"):
        Pixels.of(x[:, :3], y, "it")
    assert Pixels.of(x[..., 0], y, "it").x.shape == (60, 1, 16, 16)
    assert Pixels.of(x.transpose(0, 3, 1, 2), y, "it").x.shape == (60, 3, 16, 16)


def by_autograd(x: torch.Tensor, p: list[torch.Tensor], most: torch.Tensor, start: float) -> Any:
    """Return values and counts by the equations, with straight-through gradients written another way."""
    offset, step, worth, lowest, limit = (each.reshape(-1, 1, 1) for each in (*p, most))
    u = (x + offset) / step
    z = (u + start).detach()
    slope = sum((1 - (z - threshold).abs()).clamp(min=0) * (threshold <= limit) for threshold in range(1, 16))
    k = torch.minimum(torch.floor(z).clamp(min=0), limit)
    k = k + (u - u.detach()) * slope
    return k * worth + lowest, k


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("threads", [1, 2])
def test_kernels_are_the_equations(layout: torch.memory_format, threads: int) -> None:
    """On any number of threads, to the bit; against autograd, but for the order of sums."""
    generator = torch.Generator().manual_seed(0)
    found: list[list[torch.Tensor]] = []
    before = torch.get_num_threads()
    for used in (1, threads):
        generator.manual_seed(0)
        x = torch.randn(6, 5, 7, 3, generator=generator).to(memory_format=layout).requires_grad_()
        p = [torch.rand(5, generator=generator) + 0.3 for _ in range(4)]
        for each in p:
            each.requires_grad_()
        most = torch.tensor([0.0, 1, 2, 4, 15])
        gy, gk = torch.randn(2, 6, 5, 7, 3, generator=generator)
        torch.set_num_threads(used)
        try:
            y, k = Levels.apply(x, *p, most, 0.5, True)
            bare, none = Levels.apply(x, *p, most, 0.5, False)
            by_both = torch.autograd.grad((y * gy + k * gk).sum(), (x, *p))
            by_value = torch.autograd.grad((bare * gy).sum(), (x, *p))
        finally:
            torch.set_num_threads(before)
        assert none is None
        torch.testing.assert_close(bare, y, rtol=0, atol=0)
        y_, k_ = by_autograd(x, p, most, 0.5)
        torch.testing.assert_close(y, y_, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(k, k_, rtol=0, atol=0)
        for mine, loss in ((by_both, (y_ * gy + k_ * gk).sum()), (by_value, (y_ * gy).sum())):
            expected = torch.autograd.grad(loss, (x, *p), retain_graph=True)
            for one, other in zip(mine, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        found.append([y, k, *by_both])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_what_is_not_finite_stays_so() -> None:
    x = torch.tensor([[float("nan")], [1.0]])
    one = torch.ones(1)
    y, _ = Levels.apply(x, 0 * one, one, one, 0 * one, 4 * one, 0.5, False)
    assert y.isnan().flatten().tolist() == [True, False]


def test_kernels_in_bfloat16_are_those_of_float32() -> None:
    """But for the rounding of what is read and written, to the nearest, ties to even."""
    generator = torch.Generator().manual_seed(3)
    x = (3 * torch.randn(4, 3, 5, 2, generator=generator)).bfloat16()
    gy, gk = torch.randn(2, 4, 3, 5, 2, generator=generator).bfloat16()
    found = []
    for half in (True, False):
        given = (x if half else x.float()).requires_grad_()
        p = [
            torch.tensor(each).requires_grad_()
            for each in ([0.1, 0, 0], [0.3, 0.7, 1], [0.3, 0.7, 1], [0.0] * 3)
        ]
        y, k = Levels.apply(given, *p, torch.tensor([1.0, 4, 8]), 0.5, True)
        by = torch.autograd.grad((y * gy.to(y.dtype)).sum() + (k * gk.to(k.dtype)).sum(), (given, *p))
        found.append((y, k, *by))
    assert found[0][0].dtype is found[0][2].dtype is torch.bfloat16
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other.to(one.dtype), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("levels", "x", "slope"),
    [
        (1, 0.5, 1),
        (1, 0.0, 0.5),
        (1, 1.25, 0.25),
        (1, 1.5, 0),
        (3, -0.25, 0.25),
        (3, 0.75, 1),
        (3, 3.25, 0.25),
    ],
)
def test_slope_is_a_sum_of_triangles(levels: int, x: float, slope: float) -> None:
    """Around thresholds at 1/2, 3/2, ..: max(0, 1 - |x - 1/2|) for one level, 1 between two of them."""
    given, zero = torch.tensor([[x]], requires_grad=True), torch.zeros(1)
    y, _ = Levels.apply(given, zero, zero + 1, zero + 1, zero, zero + levels, 0.5, False)
    (found,) = torch.autograd.grad(y.sum(), given)
    assert found.item() == slope


def test_gradients_of_one_value() -> None:
    """L = 2, theta = 1: u = 2 x; at x = 0.4 k = 1, so dy/dtheta = (1 - 0.8) / 2; at x = 3 it is 1."""
    x = torch.tensor([[0.4], [3.0], [-1.0]], requires_grad=True)
    theta = torch.tensor([1.0], requires_grad=True)
    zero = torch.zeros(1)
    y, _ = Levels.apply(x, zero, theta / 2, theta / 2, zero, zero + 2, 0.5, False)
    assert y.flatten().tolist() == [0.5, 1.0, 0.0]
    for row, (dx, dtheta) in enumerate([(1.0, 0.1), (0.0, 1.0), (0.0, 0.0)]):
        found = torch.autograd.grad(y[row].sum(), (x, theta), retain_graph=True)
        assert found[0][row].item() == dx
        assert found[1].item() == pytest.approx(dtheta)


def test_one_cycle_and_decay() -> None:
    pace = Pace(0.2, 0.5)
    rates = [pace.rate(step, 100) for step in range(100)]
    assert np.argmax(rates) in (19, 20)
    assert max(rates) == pytest.approx(1, abs=0.05)
    assert rates[0] < 0.06
    assert 0 < rates[-1] < 1e-2
    weight, other = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimiser = pace.optimiser(
        [
            {"params": [weight], "lr": 0.1, "shrinks": True},
            {"params": [other], "lr": 0.1, "shrinks": False},
        ]
    )
    for each in (weight, other):
        each.grad = torch.zeros(1)
    optimiser.step()
    assert (weight.item(), other.item()) == (pytest.approx(0.95), 1.0)


def test_momentum_gathers_the_decay_of_weights() -> None:
    """With gradients of 0: v = d w and w - rate (d w + m v), by Sutskever et al., in torch's form."""
    weight, other = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimiser = Pace(0.2, 0.5, momentum=0.9).optimiser(
        [
            {"params": [weight], "lr": 0.1, "shrinks": True},
            {"params": [other], "lr": 0.1, "shrinks": False},
        ]
    )
    for each in (weight, other):
        each.grad = torch.zeros(1)
    optimiser.step()
    assert (weight.item(), other.item()) == (pytest.approx(1 - 0.1 * (0.5 + 0.9 * 0.5)), 1.0)
    second = weight.item()
    optimiser.step()
    velocity = 0.9 * 0.5 + 0.5 * second
    assert weight.item() == pytest.approx(second - 0.1 * (0.5 * second + 0.9 * velocity))


def test_gradient_descent_resumes_to_the_same_bits(data: tuple[Array, Array], tmp_path: Path) -> None:
    course = Course(arch="tiny", optimiser="sgd")
    assert course.weight_decay == OPTIMISERS["sgd"].weight_decay
    whole = run(data, course=course, rate=None, checkpoints=tmp_path / "whole")
    assert whole.record["recipe"]["rate"] == OPTIMISERS["sgd"].rate
    again = run(data, course=course, rate=None, checkpoints=tmp_path / "whole")
    assert again.model.SerializeToString() == whole.model.SerializeToString()
    assert run(data, course=course, rate=None).model.SerializeToString() == whole.model.SerializeToString()
    other = run(data, rate=None)
    assert other.record["recipe"]["rate"] == OPTIMISERS["adam"].rate
    assert other.record["curve"][-1] != whole.record["curve"][-1]
    with pytest.raises(UsageError, match="sgd trains levels, and there are none: leave rounded below 1"):
        run(data, course=course, rounded=1.0)


def test_each_image_is_mirrored_in_every_second_pass() -> None:
    chosen = torch.arange(1000)
    first, second = mirrored(chosen, 0), mirrored(chosen, 1)
    assert bool((first != second).all())
    assert 400 < int(first.sum()) < 600
    assert bool((mirrored(chosen, 2) == first).all())


def test_the_command_writes_a_network(
    data: tuple[Array, Array], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.npz"
    np.savez(rows, x=data[0], y=data[1])
    out = tmp_path / "net.onnx"
    command = ["train", "--arch", "tiny", "--data", str(rows), "-o", str(out), "--epochs", "0.5"]
    more = ["--precision", "float32", "--batch", "32", "--threads", "1", "--augment", "none"]
    assert main([*command, *more, "--metrics", str(tmp_path / "m.jsonl")]) == 0
    assert "accuracy" in capsys.readouterr().out
    assert not (tmp_path / "net.onnx.training").exists()
    assert len((tmp_path / "m.jsonl").read_text().splitlines()) >= 2
    found = convert(onnx.load(out), data[0].transpose(0, 3, 1, 2), Options(2, threads=1))
    assert "lower-quantised" in found.artefact.metadata.pipeline
    assert main([*command, *more]) == 2  # it exists
    assert main(["train", "--arch", "tiny", "--data", str(tmp_path / "no.npz"), "-o", "y.onnx"]) != 0


def test_the_command_offers_every_architecture() -> None:
    assert tuple(ARCHITECTURES) == OFFERED
    assert tuple(OPTIMISERS) == OFFERED_OPTIMISERS
    assert training_recipe(COURSE, epochs=1).augment == ("crop", "alternate")
