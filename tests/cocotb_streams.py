"""What cocotb drives the streams of a design with, inside a simulator; `test_fpga_cocotb.py` starts it.

Its folder holds a bundle. The streams follow AMBA AXI4-Stream (ARM IHI 0051): a transfer happens at a rising
edge at which valid and ready are both set, and what is offered stays as it is until it is taken.
"""

# cocotb is absent where the checks run.
# pyright: reportMissingImports=false
from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge

INPUTS, OUTPUTS = int(os.environ.get("SNNC_INPUTS", "1")), int(os.environ.get("SNNC_OUTPUTS", "1"))
PATIENCE = 20_000
"""Cycles within which an image is answered, whatever the pauses."""


class Streams:
    """Drives both streams at falling edges, and records every transfer at rising ones."""

    def __init__(self, dut: Any, seed: int, *, pause: float = 0.0, deaf: float = 0.0) -> None:
        self.dut, self.random = dut, random.Random(seed)
        self.pause, self.deaf = pause, deaf
        self.waiting: list[tuple[int, bool]] = []
        self.taken = 0
        self.scores: list[int] = []
        self.cycle = 0
        self.accepted = False

    async def begin(self) -> None:
        """Start clock and monitor, and reset."""
        Clock(self.dut.clk, 10, unit="ns").start()
        self.dut.s_tvalid.value = self.dut.s_tlast.value = self.dut.s_tdata.value = 0
        self.dut.m_tready.value = 0
        await self.reset()
        cocotb.start_soon(self._drive())
        cocotb.start_soon(self._watch())

    async def reset(self) -> None:
        """Hold reset for three cycles; what was offered and recorded is void."""
        self.dut.rst.value = 1
        self.waiting.clear()
        for _ in range(3):
            await FallingEdge(self.dut.clk)
        self.dut.rst.value = 0
        self.taken = 0
        self.scores.clear()

    def offer(self, image: list[int], *, marked: bool = True) -> None:
        """Queue an image, the last value with tlast."""
        last = len(image) - 1
        self.waiting += [(value & 0xFFFF, marked and place == last) for place, value in enumerate(image)]

    async def until(self, done: Any) -> None:
        """Wait until a condition holds."""
        for _ in range(PATIENCE):
            if done():
                return
            await FallingEdge(self.dut.clk)
        raise AssertionError(
            f"nothing after {PATIENCE} cycles: {self.taken} taken, {len(self.scores)} scores"
        )

    async def _drive(self) -> None:
        offered = False
        while True:
            await FallingEdge(self.dut.clk)
            if self.dut.rst.value == 1 or self.accepted:
                offered = False
            if (
                not offered
                and self.dut.rst.value == 0
                and self.waiting
                and self.random.random() >= self.pause
            ):
                self.dut.s_tdata.value, self.dut.s_tlast.value = self.waiting.pop(0)
                offered = True
            self.dut.s_tvalid.value = int(offered)
            self.dut.m_tready.value = int(self.random.random() >= self.deaf)

    async def _watch(self) -> None:
        dut = self.dut
        held: tuple[int, bool] | None = None
        while True:
            await RisingEdge(dut.clk)
            # What stood at the edge: the test drives at falling edges, and the core has not answered yet.
            reset, valid, ready = (bool(each.value) for each in (dut.rst, dut.m_tvalid, dut.m_tready))
            self.accepted = not reset and bool(dut.s_tvalid.value) and bool(dut.s_tready.value)
            self.cycle += 1
            score = (dut.m_tdata.value.to_signed(), bool(dut.m_tlast.value)) if valid else None
            if not reset:
                self.taken += self.accepted
                if held is not None:
                    assert score == held, f"a score that waits changed from {held} to {score}"
                if valid and ready:
                    assert score is not None
                    self.scores.append(score[0])
                    assert score[1] == (len(self.scores) % OUTPUTS == 0), "tlast is not at the last score"
            held = score if valid and not ready and not reset else None
            await ReadOnly()


def vectors() -> tuple[list[list[int]], list[list[int]]]:
    """Return the images of the bundle and their scores."""
    words = [int(line, 16) for line in Path("stimulus.hex").read_text(encoding="ascii").split()]
    expected = [int(line) for line in Path("expected.txt").read_text(encoding="ascii").split()]
    return (
        [words[at : at + INPUTS] for at in range(0, len(words), INPUTS)],
        [expected[at : at + OUTPUTS] for at in range(0, len(expected), OUTPUTS)],
    )


async def started(dut: Any, seed: int, **pauses: float) -> Streams:
    """Return driven streams."""
    streams = Streams(dut, seed, **pauses)
    await streams.begin()
    return streams


@cocotb.test()
async def several_images_in_a_row(dut: Any) -> None:
    """All are offered at once, and answered in turn."""
    images, expected = vectors()
    streams = await started(dut, 1)
    for image in images:
        streams.offer(image)
    await streams.until(lambda: len(streams.scores) == OUTPUTS * len(images))
    assert streams.scores == [score for each in expected for score in each]
    assert streams.taken == INPUTS * len(images)


@cocotb.test()
@cocotb.parametrize(seed=[2, 3], pause=[0.0, 0.7], deaf=[0.5, 0.9])
async def random_back_pressure(dut: Any, seed: int, pause: float, deaf: float) -> None:
    """Both sides pause at random, and nothing is lost, doubled or changed."""
    images, expected = vectors()
    streams = await started(dut, seed, pause=pause, deaf=deaf)
    for image in images[:3]:
        streams.offer(image, marked=seed % 2 == 0)
    await streams.until(lambda: len(streams.scores) == OUTPUTS * 3)
    assert streams.scores == [score for each in expected[:3] for score in each]


@cocotb.test()
async def scores_wait_for_a_reader(dut: Any) -> None:
    """Valid does not wait for ready, and no image is taken before the scores are."""
    images, expected = vectors()
    streams = await started(dut, 5, deaf=1.0)
    streams.offer(images[0])
    streams.offer(images[1])
    await streams.until(lambda: dut.m_tvalid.value == 1)
    for _ in range(50):
        await FallingEdge(dut.clk)
    assert streams.taken == INPUTS
    assert streams.scores == []
    streams.deaf = 0.0
    await streams.until(lambda: len(streams.scores) == 2 * OUTPUTS)
    assert streams.scores == expected[0] + expected[1]


@cocotb.test()
@cocotb.parametrize(share=[0.02, 0.4, 0.97])
async def reset_in_an_image(dut: Any, share: float) -> None:
    """After a reset at any moment the next image is answered as if it were the first."""
    images, expected = vectors()
    streams = await started(dut, 6, pause=0.2, deaf=0.2)
    began = streams.cycle
    streams.offer(images[0])
    await streams.until(lambda: len(streams.scores) == OUTPUTS)
    whole = streams.cycle - began
    streams.offer(images[1])
    for _ in range(round(share * whole)):
        await FallingEdge(dut.clk)
    await streams.reset()
    streams.offer(images[2])
    await streams.until(lambda: len(streams.scores) == OUTPUTS)
    assert streams.scores == expected[2]


@cocotb.test(skip=INPUTS < 2)
async def an_image_that_ends_early_is_dropped(dut: Any) -> None:
    """What came up to an early tlast is void; the image behind it is whole."""
    images, expected = vectors()
    streams = await started(dut, 7)
    streams.offer(images[0][: INPUTS // 2])
    streams.offer(images[1])
    await streams.until(lambda: len(streams.scores) == OUTPUTS)
    assert streams.scores == expected[1]
    assert streams.taken == INPUTS // 2 + INPUTS
