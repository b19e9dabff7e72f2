"""Hold the reader against the test cases of the onnx package: each is read rightly or refused with a code.

    python -m benchmarks.corpus.backend_cases
    python -m benchmarks.corpus.backend_cases --report docs/backend_cases.md
    python -m benchmarks.corpus.backend_cases --operators Conv,MaxPool --verbose

The cases are those that every ONNX runtime is tested by: some for each operator (``onnx.backend.test``, kind
``node``), networks that PyTorch wrote (``pytorch-converted``, ``pytorch-operator``), and small models
(``simple``). Each gives a model, inputs and the outputs that are right. A case of several inputs is also run
with one of them free and the others constant, for each in turn, as weights are in a trained network; one of
several outputs, with each alone. Most cases treat their first axis as any other, where a network has its
rows: each case of one free input is run once more with all of that input as one row. A case passes where the
network as it was read, run by the oracle of every conversion (:class:`snnc.source.ann_session.AnnSession`),
gives the expected output.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.common.tables import table
from snnc.diagnostics import Severity
from snnc.errors import SnncError
from snnc.frontend import SourceInput, SourceModel, read_onnx
from snnc.frontend.loading import LoadedModel
from snnc.frontend.operators import OPERATORS, QUANTISED, UNROLLED
from snnc.ir.batch import joined
from snnc.ir.graph import FloatArray
from snnc.source.ann_session import AnnSession

KINDS = ("pytorch-converted", "pytorch-operator", "simple")
"""The kinds that the onnx package keeps as files; the cases of kind ``node`` are computed."""

CLAIMED = (
    frozenset(OPERATORS)
    | frozenset(UNROLLED)
    | {n for n, found in QUANTISED["ai.onnx"].items() if not found.refused}
)
"""The operators of ONNX's own domain that `snnc ops` lists."""

PASSED, WRONG, CRASHED = "passed", "wrong", "crashed"
RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""What an answer may be off; the runners of the onnx package allow 1e-3 and 1e-7."""
SIZES_ARE_INPUTS = 5
"""The operator set from which on Reshape reads its sizes."""
COARSE = {"bfloat16": 2**-8, "float16": 2**-10}
"""By how much numbers of these types are rounded; the oracle computes in float32."""
ROUNDINGS = {"Attention": 3}
"""How often an operator rounds until its answer, where it is more than once: scores and weights, too."""


HEAD = f"""\
# The test cases of the onnx package

Made by `python -m benchmarks.corpus.backend_cases --report docs/backend_cases.md`; do not edit.

The cases of onnx {onnx.__version__}, by which every ONNX runtime is tested: models, inputs, and the outputs
that are right. A case of several inputs is counted once as it is and once for each input that is free while
the others are constant, as weights are; one of several outputs, once for each. Most cases treat their first
axis as any other, where a network has its rows, and what mixes rows is refused: each case of one free input
is counted once more with all of that input as one row. *Passed* means that the network as it was read gives
these outputs; anything else is refused with the code that heads the column (`snnc explain CODE`). None may
be wrong, and a test holds that.

## Operators that `snnc ops` lists
"""
REST = """\
## Everything else

Functions written out as the operators that they are made of, networks of several operators, and the {count}
operators that are not supported.
"""


@dataclass(frozen=True)
class Case:
    """A model with one data set.

    Attributes:
        name: the case's, and which of its inputs is free and which output is read.
        group: the operator or the kind that it is counted under.
        model: of one output.
        free: the inputs that are no initialisers, in order.
        inputs: their values.
        expected: the output.
    """

    name: str
    group: str
    model: onnx.ModelProto
    free: tuple[str, ...]
    inputs: tuple[Any, ...]
    expected: Any


@dataclass(frozen=True)
class Verdict:
    """What became of a case.

    Attributes:
        case: which.
        result: ``PASSED``, ``WRONG``, ``CRASHED``, or the code of the refusal.
        reason: one line; empty where it passed.
    """

    case: Case
    result: str
    reason: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether that must not happen."""
        return self.result in (WRONG, CRASHED)


def cases(wanted: Callable[[str], bool] = lambda group: True) -> Iterator[Case]:
    """Yield every case, with every choice of a free input and an output.

    Args:
        wanted: is told the group of each case before that is made, and says whether it is.
    """
    # Imported here: it computes all cases of kind ``node``, which takes some seconds.
    from onnx.backend.test.case.node import collect_testcases
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # it divides by zero on purpose
        computed = list(collect_testcases(None))
    for found in computed:
        if found.model is None or found.data_sets is None:
            continue  # none is
        nodes = found.model.graph.node
        group = "functions, expanded" if "_expanded" in found.name else nodes[0].op_type
        for inputs, outputs in found.data_sets:
            yield from _choices(found.name, group, found.model, inputs, outputs, wanted)
    for kind in KINDS:
        for found in load_model_tests(kind=kind):
            folder = Path(str(found.model_dir))
            model = onnx.load_model(folder / "model.onnx")
            for data in sorted(folder.glob("test_data_set_*")):
                inputs, outputs = (_stored(data, what) for what in ("input", "output"))
                yield from _choices(found.name, kind, model, inputs, outputs, wanted)


def read(case: Case) -> SourceModel:
    """Read a case's model as a file would be."""
    return read_onnx(LoadedModel(Path(f"{case.name}.onnx"), "0" * 64, case.model))


def judge(case: Case, reader: Callable[[Case], SourceModel] = read) -> Verdict:
    """Read a case's model, run it, and say what became of it."""
    try:
        source = reader(case)
        with np.errstate(all="ignore"):
            found = run(source, dict(zip(case.free, case.inputs, strict=True)))
            expected = np.asarray(case.expected).astype(np.float32)
    except SnncError as error:
        every = getattr(error, "diagnostics", ())
        diagnostics = [each for each in every if each.severity is Severity.ERROR]
        code = diagnostics[0].code.number if diagnostics else f"exit {error.exit_code}"
        return Verdict(case, code, str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault
        return Verdict(case, CRASHED, f"{type(error).__name__}: {error}")
    if found.size != expected.size:
        return Verdict(case, WRONG, f"{found.shape} instead of {expected.shape}")
    found = found.reshape(expected.shape)
    coarse = COARSE.get(str(np.asarray(case.expected).dtype), 0)
    relative = max(RELATIVE, coarse * ROUNDINGS.get(case.group, 1))
    if not np.allclose(found, expected, relative, ABSOLUTE, equal_nan=True):
        return Verdict(case, WRONG, f"off by up to {np.nanmax(np.abs(found - expected)):.3g}")
    return Verdict(case, PASSED)


def run(source: SourceModel, inputs: Mapping[str, Any]) -> FloatArray:
    """Return the one output of a network as it was read, in the layout of the file."""
    graph = source.graph
    rows = {
        given.name: given.layout.to_canonical(_rows(np.asarray(inputs[given.name]), given)).astype(np.float32)
        for given in source.inputs
    }
    (output,) = graph.outputs
    found = AnnSession(graph, [output], threads=1).run(joined(rows))[output]
    return source.output.layout.to_source(found)


def _rows(values: Any, given: SourceInput) -> Any:
    """Return rows of an input, (n, *shape): one where a row is the whole tensor."""
    shape = given.layout.source_shape
    return values if values.shape[1:] == shape else values.reshape(1, *shape)


def page(verdicts: Iterable[Verdict]) -> str:
    """Return the counts as a page in Markdown."""
    counts: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        counts.setdefault(verdict.case.group, Counter())[verdict.result] += 1
    codes = sorted({code for found in counts.values() for code in found} - {PASSED})
    head = ["operator", "cases", PASSED, *codes]

    def line(name: str, found: Counter[str]) -> list[str]:
        return [name, str(found.total()), *(str(found[code] or "") for code in (PASSED, *codes))]

    without = [name for name in sorted(CLAIMED) if name not in counts]
    others = [name for name in counts if name not in CLAIMED and name[0].isupper()]
    rest = sum((counts[name] for name in others), Counter())
    claimed = table(head, (line(name, counts[name]) for name in sorted(counts) if name in CLAIMED))
    several = [name for name in ("functions, expanded", *KINDS) if name in counts]
    parts = [
        HEAD,
        claimed,
        *([f"No case is of {', '.join(without)}.\n"] if without else []),
        REST.format(count=len(others)),
        table(head, [*(line(name, counts[name]) for name in several), line("not supported", rest)]),
    ]
    return "\n".join(parts)


def _choices(
    name: str,
    group: str,
    model: onnx.ModelProto,
    inputs: Iterable[Any],
    outputs: Iterable[Any],
    wanted: Callable[[str], bool],
) -> Iterator[Case]:
    """Yield a data set's case as it is, and with one input free; of each output alone."""
    values, expected = [_array(value) for value in inputs], [_array(value) for value in outputs]
    initialisers = {tensor.name for tensor in model.graph.initializer}
    free = [value.name for value in model.graph.input if value.name not in initialisers]
    if len(values) > len(free):  # the initialisers that are inputs, too, are given again
        values = [v for v, entry in zip(values, model.graph.input, strict=False) if entry.name in free]
    chosen: list[tuple[str, tuple[int, ...]]] = [("", tuple(range(len(free))))]
    if len(free) > 1:
        chosen += [(f", {entry} free", (index,)) for index, entry in enumerate(free)]
    for words, kept in chosen:
        fixed = [index for index in range(len(free)) if index not in kept]
        if len(values) != len(free) or not all(isinstance(values[index], np.ndarray) for index in fixed):
            continue  # a sequence, or nothing, can be no constant
        for position, output in enumerate(model.graph.output):
            given = tuple(values[index] for index in kept)
            told = group in CLAIMED or group[0].islower()  # of others, the operator itself is refused
            told = told and model.opset_import[0].version >= SIZES_ARE_INPUTS
            arrays = all(isinstance(value, np.ndarray) for value in (*given, expected[position]))
            as_it_is = wanted(group)
            as_one_row = len(kept) == 1 and told and arrays and wanted(group)
            if not as_it_is and not as_one_row:
                continue
            alone = onnx.ModelProto()
            alone.CopyFrom(model)
            del alone.graph.input[:], alone.graph.output[:]
            alone.graph.output.append(output)
            known = {free[index] for index in fixed}
            alone.graph.input.extend(value for value in model.graph.input if value.name not in known)
            for index in fixed:
                alone.graph.initializer.append(numpy_helper.from_array(values[index], free[index]))
            several = f", output {output.name}" if len(model.graph.output) > 1 else ""
            names = tuple(free[index] for index in kept)
            case = Case(f"{name}{words}{several}", group, alone, names, given, expected[position])
            if as_it_is:
                yield case
            if as_one_row:
                yield _as_one_row(case)


def _as_one_row(case: Case) -> Case:
    """Return a case whose input and output have another axis in front, of length 1.

    Floats are given doubled and halved again, so that what only moves values is no copy of the input.
    """
    (name,), (value,), output = case.free, case.inputs, case.model.graph.output[0]
    types = {entry.name: entry.type.tensor_type.elem_type for entry in (*case.model.graph.input, output)}
    model, graph = onnx.ModelProto(), onnx.GraphProto(name=case.model.graph.name)
    model.CopyFrom(case.model)
    row, answer, taken, given, half = (
        f"{name} {part}" for part in ("row", "answer", "shape", "answers", "half")
    )
    answer_shape = (1, *case.expected.shape)
    for shape, label in ((value.shape, taken), (answer_shape, given)):
        graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), label))
    if types[name] == onnx.TensorProto.FLOAT:
        graph.initializer.append(numpy_helper.from_array(np.asarray(0.5, np.float32), half))
        graph.node.append(helper.make_node("Reshape", [row, taken], [f"{row} twice"]))
        graph.node.append(helper.make_node("Mul", [f"{row} twice", half], [name]))
        value = 2 * value
    else:
        graph.node.append(helper.make_node("Reshape", [row, taken], [name]))
    graph.node.extend(case.model.graph.node)
    graph.node.append(helper.make_node("Reshape", [output.name, given], [answer]))
    graph.initializer.extend(case.model.graph.initializer)
    graph.input.extend(entry for entry in case.model.graph.input if entry.name != name)
    graph.input.append(helper.make_tensor_value_info(row, types[name], (1, *value.shape)))
    graph.output.append(helper.make_tensor_value_info(answer, types[output.name], answer_shape))
    model.graph.CopyFrom(graph)
    return replace(case, name=f"{case.name}, one row", model=model, free=(row,), inputs=(value[None],))


def _array(value: Any) -> Any:
    """Return a tensor as an array; sequences and optionals stay."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic | float | int | bool) else value


def _stored(folder: Path, what: str) -> list[Any]:
    """Return the inputs or outputs of a data set in files; what is no tensor, as bytes."""
    found: list[Any] = []
    for index in range(len(list(folder.glob(f"{what}_*.pb")))):
        data = (folder / f"{what}_{index}.pb").read_bytes()
        try:
            found.append(numpy_helper.to_array(onnx.TensorProto.FromString(data)))
        except (TypeError, ValueError, onnx.checker.ValidationError):
            found.append(data)
    return found


@click.command(help=__doc__)
@click.option("--operators", default="", help="Only these, separated by commas.")
@click.option("--verbose", is_flag=True, help="Also print the reason of every refusal.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the counts as Markdown.")
def main(operators: str, verbose: bool, report: Path | None) -> None:
    """Judge all cases, and exit with 1 if any is wrong."""
    chosen = set(filter(None, operators.split(",")))
    found = [judge(case) for case in cases() if not chosen or case.group in chosen]
    if not found:
        raise click.ClickException("no case is of such an operator")
    for verdict in found:
        if verdict.is_fault or (verbose and verdict.result != PASSED):
            click.echo(f"{verdict.result:8} {verdict.case.name}: {verdict.reason}")
    text = page(found)
    if report is not None and not chosen:
        report.write_text(text, encoding="utf-8")
    else:
        click.echo(text[text.index("## ") :])
    if wrong := sum(verdict.is_fault for verdict in found):
        click.echo(f"{wrong} of {len(found)} cases are wrong", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
