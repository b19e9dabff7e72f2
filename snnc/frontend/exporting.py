"""Networks of PyTorch, exported to ONNX where torch is installed; never imported otherwise."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from snnc.errors import InputError, UsageError
from snnc.ir.graph import NumberArray

EXTRA = "pip install torch==2.13.0 onnxscript"
INPUT = "input"
"""What the one input of a network is called, as its forward may call it anything."""


def is_module(value: Any) -> bool:
    """Whether a value is a ``torch.nn.Module``. Torch is not imported: without it, there can be none."""
    kind = getattr(getattr(sys.modules.get("torch"), "nn", None), "Module", None)
    return isinstance(kind, type) and isinstance(value, kind)


def exported(module: Any, rows: Mapping[str, NumberArray] | NumberArray) -> bytes:
    """Export a module to ONNX, in evaluation mode and with a free batch where the module has one.

    The module is left as it was, its training mode included.

    Args:
        module: a ``torch.nn.Module``.
        rows: at least one row, (n, ...), as its ``forward`` takes a batch; of several inputs by the names of
            its arguments. Floats become the type of its parameters, integers stay.

    Returns:
        The bytes of an ``.onnx`` file.

    Raises:
        InputError: it does not take such rows, or torch cannot export it.
        UsageError: what the exporter needs is missing.
    """
    torch = sys.modules["torch"]
    name = type(module).__name__
    modes = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        with torch.no_grad(), _silent():
            given = {key: _example(torch, module, x) for key, x in _named(rows).items()}
            arguments = _arguments(rows, given)
            _try(module, name, arguments, given)
            program = _program(torch, module, name, arguments, list(given))
    finally:
        for each, mode in modes:
            each.training = mode
    try:
        data: bytes = program.model_proto.SerializeToString()
    except Exception as error:  # protobuf's exceptions have no root of their own
        raise InputError(f"{name} cannot be written as one ONNX file: {_line(error)}") from error
    return data


def _named(rows: Mapping[str, NumberArray] | NumberArray) -> Mapping[str, NumberArray]:
    return rows if isinstance(rows, Mapping) else {INPUT: rows}


def _arguments(
    rows: Mapping[str, NumberArray] | NumberArray, given: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and named arguments of the module's ``forward``."""
    return ((), given) if isinstance(rows, Mapping) else (tuple(given.values()), {})


def _example(torch: Any, module: Any, x: NumberArray) -> Any:
    """Return two rows as a tensor: of one, the exporter would take the batch for a constant."""
    two = np.ascontiguousarray(np.concatenate([x[:1], x[:1]]) if len(x) < 2 else x[:2])
    tensor = torch.from_numpy(two)
    parameter = next((each for each in module.parameters() if each.is_floating_point()), None)
    if two.dtype.kind == "f":
        tensor = tensor.to(torch.float32 if parameter is None else parameter.dtype)
    return tensor if parameter is None else tensor.to(parameter.device)


def _try(module: Any, name: str, arguments: tuple[Any, Any], given: Mapping[str, Any]) -> None:
    """Run the module once: what it raises by itself is no fault of the exporter."""
    try:
        module(*arguments[0], **arguments[1])
    except Exception as error:  # the module may raise anything
        shapes = " and ".join(f"({', '.join(map(str, ('n', *value.shape[1:])))})" for value in given.values())
        kinds = ", ".join(str(value.dtype).removeprefix("torch.") for value in given.values())
        raise InputError(
            f"{name} does not take a batch of shape {shapes} in {kinds}: {_line(error)}; check the rows and "
            "their preprocessing"
        ) from error


def _program(torch: Any, module: Any, name: str, arguments: tuple[Any, Any], names: list[str]) -> Any:
    """Return what the exporter makes, with a free batch, or with one row where the module fixes it."""
    args, kwargs = arguments
    batch = {0: torch.export.Dim("batch")}
    shapes: Any = dict.fromkeys(kwargs, batch) if kwargs else tuple(batch for _ in args)

    def export(args: Any, kwargs: Any, dynamic_shapes: Any) -> Any:
        return torch.onnx.export(
            module,
            args,
            kwargs=kwargs,
            input_names=names,
            dynamic_shapes=dynamic_shapes,
            dynamo=True,
            verbose=False,
        )

    try:
        return export(args, kwargs, shapes)
    except ImportError as error:
        raise UsageError(f"{name} needs torch's exporter: {_line(error)}; install it by {EXTRA}") from error
    except Exception as error:  # the exporter raises anything
        if not _fixes_batch(error):
            raise InputError(_refusal(name, error)) from error
    try:
        return export(tuple(x[:1] for x in args), {key: x[:1] for key, x in kwargs.items()}, None)
    except Exception as error:  # as above
        raise InputError(_refusal(name, error)) from error


def _fixes_batch(error: BaseException) -> bool:
    """Whether an export failed because the module works on batches of one size alone."""
    return any("onstraint" in str(each) and "batch" in str(each) for each in _chain(error))


def _refusal(name: str, error: BaseException) -> str:
    told = " ".join(str(each) for each in _chain(error)).lower()
    marks = ("data-dependent", "data dependent", "control flow", "guard on data")
    if any(mark in told for mark in marks):
        return (
            f"torch cannot export {name}: its forward depends on the values of its input, by if, while or "
            ".item(): use torch.where, or export it to ONNX yourself"
        )
    first = list(_chain(error))[-1]
    return f"torch cannot export {name}: {_line(first)}; export it to ONNX yourself, and give that file"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it, down to the first one."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _line(error: BaseException) -> str:
    """Return the first sentence of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what the exporter prints, warns and logs from the terminal."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    inner = {each: each.level for each in _loggers()}
    for each in inner:
        each.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        for each, kept in inner.items():
            each.setLevel(kept)


def _loggers() -> list[logging.Logger]:
    """Return the loggers of torch and of its exporter that have levels of their own."""
    found = logging.root.manager.loggerDict.items()
    names = ("torch.", "onnxscript", "onnx_ir")
    return [each for name, each in found if name.startswith(names) and isinstance(each, logging.Logger)]
