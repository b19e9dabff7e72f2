"""``package.module:factory`` in place of a file: a network of PyTorch, made by the user's own code.

Only this form runs code, and only where no file is called so. The module is found from the working directory,
as ``python -m`` finds it.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from snnc.errors import InputError, UsageError
from snnc.models import PREFIX
from snnc.options import ConvertOptions

_FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
SPIKING = ".snn.onnx"


def is_factory(name: str) -> bool:
    """Whether a name is ``package.module:factory``: never that of a file, and never ``zoo:NAME``."""
    return bool(_FORM.fullmatch(name)) and not name.startswith(PREFIX) and not Path(name).exists()


@contextlib.contextmanager
def exported_file(name: str, asked: ConvertOptions) -> Iterator[str]:
    """Write the network of a factory as an ONNX file beside the artefact, and yield its path.

    It is gone again if the conversion fails, unless --force has replaced another; of a dry run, in any case.

    Args:
        name: ``package.module:factory``.
        asked: the options of the conversion.

    Raises:
        UsageError: torch or the calibration rows are missing.
        InputError: the code cannot be imported or fails, or its network cannot be exported.
    """
    from snnc.cli.files import check_outputs
    from snnc.frontend.exporting import exported
    from snnc.writing import replacing

    if asked.calib is None:
        raise UsageError("a network of PyTorch needs calibration rows, by which it is exported: give --calib")
    with contextlib.ExitStack() as stack:
        if asked.output is None or asked.dry_run:
            file = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="snnc-"))) / "network.onnx"
        else:
            file = _beside(asked.output)
            check_outputs(asked.output, file, others=(asked.calib, asked.preprocess), force=asked.force)
        data = exported(made(name), _rows(asked))
        was_there = file.exists()
        with replacing(file) as stream:
            stream.write(data)
        try:
            yield str(file)
        except BaseException:
            if not was_there:
                file.unlink(missing_ok=True)
            raise


def made(name: str) -> Any:
    """Import a module, call what makes the network, and return it.

    Raises:
        InputError: one of these fails, or it is no ``torch.nn.Module``.
        UsageError: torch is not installed.
    """
    from snnc.frontend.exporting import EXTRA, is_module

    module, _, path = name.partition(":")
    # What the user's code prints is no result of this one.
    with contextlib.redirect_stdout(sys.stderr), _importable():
        found: Any = _imported(name, module)
        for part in path.split("."):
            try:
                found = getattr(found, part)
            except AttributeError:
                raise InputError(f"{name}: {module} has no {path!r}: check the name") from None
        if not is_module(found) and callable(found):
            try:
                found = found()
            except (Exception, SystemExit) as error:
                raise InputError(f"{name}, called without arguments, fails: {_said(error)}") from error
    if is_module(found):
        return found
    if "torch" not in sys.modules:
        raise UsageError(f"{name}: networks of PyTorch need torch: {EXTRA}")
    raise InputError(f"{name} gives {type(found).__name__}, no torch.nn.Module: return the network")


def _imported(name: str, module: str) -> Any:
    from snnc.frontend.exporting import EXTRA

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing == "torch" or missing.startswith("torch."):
            raise UsageError(f"{name}: networks of PyTorch need torch: {EXTRA}") from None
        if module == missing or module.startswith(missing + "."):
            raise InputError(
                f"{name} does not exist, neither as a file nor as a module {missing!r} in {Path.cwd()}: "
                "check the name, or run snnc where the module is"
            ) from None
        raise InputError(f"{name} cannot be imported, {_said(error)}: install what it needs") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{name} cannot be imported, {_said(error)}") from error


@contextlib.contextmanager
def _importable() -> Iterator[None]:
    """Find modules in the working directory, as ``python -m`` does."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())[:160]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _beside(output: Path) -> Path:
    name = output.name
    return output.with_name(
        name.removesuffix(SPIKING) + ".onnx" if name.endswith(SPIKING) else f"{output.stem}.source.onnx"
    )


def _rows(asked: ConvertOptions) -> Any:
    """Return the first calibration rows as the network takes them."""
    from snnc.arguments import example_rows
    from snnc.cli.layouts import with_layout
    from snnc.data.material import read_material
    from snnc.data.preprocessing import Preprocessing

    preprocessing = None if asked.preprocess is None else Preprocessing.read(asked.preprocess)
    if asked.calib is None:
        raise UsageError("there are no calibration rows")
    found = read_material(asked.calib, preprocessing, limit=2)
    return example_rows(found.x, with_layout(found.preprocessing, asked.rows_layout), found.name)
