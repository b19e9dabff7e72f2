"""Whether torch is there: it is an extra, imported only by who asks for learning."""

from __future__ import annotations

from importlib.util import find_spec

from snnc.errors import UsageError

COMMAND = "pip install 'snnc[train]'"
"""What installs it."""


def require_torch(what: str) -> None:
    """Refuse to go on without torch.

    Args:
        what: needs it.

    Raises:
        UsageError: it is not installed.
    """
    if find_spec("torch") is None:
        raise UsageError(f"{what} needs PyTorch, which is not installed: {COMMAND}")
