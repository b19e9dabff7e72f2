"""Every deliberate error of snnc.

The tree, with the exit code that the command line gives each branch::

    SnncError                     (1)
    ├── UsageError                (2)  an option or a combination of options makes no sense
    ├── UnsupportedModelError     (3)  the network holds something that cannot be converted
    ├── GateError                 (4)  a measured figure missed the limit that the user set
    ├── InputError                (5)  a file or an array is missing, corrupt or does not fit
    │   ├── ArtefactError         (5)  an ``.snn.onnx`` file is damaged, foreign or too new
    │   └── NonFiniteError        (5)  NaN or infinity where numbers are needed
    ├── TargetError               (6)  the network does not fit the target
    ├── ClusterError              (7)  workers are not reached, do not fit, or end at a task
    └── InternalError             (1)  snnc broke its own rules: a bug
        ├── VerificationError     (1)  a graph broke the rules of its dialect
        └── UnknownOperationError (1)  a graph holds a node or a setting that a part of snnc does not know

A message is one line: what is wrong, where, and how to mend it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from snnc.diagnostics import Diagnostic


class SnncError(Exception):
    """Root of all deliberate errors.

    Attributes:
        exit_code: what the command line exits with.
    """

    exit_code: ClassVar[int] = 1


class UsageError(SnncError):
    """An option, or a combination of options, makes no sense."""

    exit_code = 2


class UnsupportedModelError(SnncError):
    """The network holds something that cannot be converted.

    Attributes:
        diagnostics: every problem found, not only the first.
    """

    exit_code = 3

    def __init__(self, message: str, diagnostics: tuple[Diagnostic, ...] = ()) -> None:
        """Keep the diagnostics beside the one-line message."""
        super().__init__(message)
        self.diagnostics = diagnostics


class GateError(SnncError):
    """A measured figure missed the limit that the user set."""

    exit_code = 4


class InputError(SnncError):
    """A file or an array is missing, corrupt, or does not fit."""

    exit_code = 5


class ArtefactError(InputError):
    """An ``.snn.onnx`` file is damaged, foreign, or made by a newer snnc."""


class NonFiniteError(InputError):
    """NaN or infinity stands where a number is needed."""


class TargetError(SnncError):
    """The network does not fit the target.

    Attributes:
        diagnostics: every problem found, not only the first.
    """

    exit_code = 6

    def __init__(self, message: str, diagnostics: tuple[Diagnostic, ...] = ()) -> None:
        """Keep the diagnostics beside the one-line message."""
        super().__init__(message)
        self.diagnostics = diagnostics


class ClusterError(SnncError):
    """Workers cannot be reached, do not fit this process, or end at a task whoever tries it."""

    exit_code = 7


class InternalError(SnncError):
    """The compiler broke its own rules: a bug worth reporting."""


class VerificationError(InternalError):
    """A graph broke the rules of its dialect."""


class UnknownOperationError(InternalError):
    """A graph holds a node or a setting of which a part of snnc does not know what it computes."""
