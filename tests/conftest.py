"""What holds for every test: how hypothesis searches; how several threads come to work on small images."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from hypothesis import settings

from snnc.backends.numba_cpu.planning import plan
from tests.onnx_models import begin_weights

# The same examples on every machine, and no failure because a busy machine was slow.
# `pytest --hypothesis-profile=explore` looks further, with new examples on every run.
settings.register_profile("fixed", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("fixed")


@pytest.hookimpl(tryfirst=True)
def pytest_collectstart() -> None:
    """Let a module draw the same weights whichever modules were read before it."""
    begin_weights()


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    """Let a fixture draw the same weights whichever test asks for it first."""
    begin_weights()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Let a test draw the same weights whichever tests ran before it."""
    begin_weights()


@pytest.fixture(scope="module")
def shared_images() -> Iterator[None]:
    """Let all threads work on one image, even on one that a single thread would finish sooner."""
    with patch.object(plan, "LEAST_SHARED", 0):
        yield


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let programs be interrupted even where the tests run in the background, which ignores interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
