"""Inline the functions that a model brings along, as far as they end and mean what the model means.

A function that calls itself, or whose calls multiply beyond measure, is refused before anything is inlined. A
function in the standard domain with the name of a standard operator is left alone: runtimes compute the
operator. A function of another operator set is inlined where its operators are the same in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import inliner

from snnc.errors import InputError

DEFAULT_DOMAINS = ("", "ai.onnx")

MOST_NODES = 200_000
"""Most nodes of a model after all calls are inlined."""

Key = tuple[str, str, str]
"""Domain, name and overload of a function."""


def inlined(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """Return a model without calls to its own functions; not changed itself.

    Args:
        model: as it was loaded.
        where: the file, for messages.

    Raises:
        InputError: a function calls itself, or there would be more than ``MOST_NODES`` nodes.
    """
    if not model.functions:
        return model
    opset = opset_of(model.opset_import)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    functions = [each for each in result.functions if not _is_standard(each, opset)]
    del result.functions[:]
    result.functions.extend(functions)
    _require_end(result, where)
    for function in result.functions:
        _follow(function, opset)
    try:
        return inliner.inline_local_functions(result)
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{where}: its functions cannot be inlined: {reason}; export it without") from error


def opset_of(imports: Iterable[onnx.OperatorSetIdProto]) -> int:
    """Return the version of the standard domain; 0 where none is given."""
    return max((entry.version for entry in imports if entry.domain in DEFAULT_DOMAINS), default=0)


def _known(opset: int) -> int:
    """Return a version that onnx can be asked about."""
    return min(max(opset, 1), onnx.defs.onnx_opset_version())


def nested(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield nodes and all nodes of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from nested(graph.node)


def _is_standard(function: onnx.FunctionProto, opset: int) -> bool:
    if function.domain not in DEFAULT_DOMAINS:
        return False
    return onnx.defs.has(function.name, _known(opset), "")


def _require_end(model: onnx.ModelProto, where: str) -> None:
    """Count the nodes after inlining, without recursion: calls may nest as deep as there are functions."""
    calls: dict[Key, list[Key]] = {}
    sizes: dict[Key, int] = {}
    for function in model.functions:
        inner = list(nested(function.node))
        calls[_key(function)] = [_called(node) for node in inner]
        sizes[_key(function)] = len(inner)
    known = calls.keys()
    calls = {key: [name for name in names if name in known] for key, names in calls.items()}
    done: set[Key] = set()
    for start in calls:
        path: list[tuple[Key, Iterator[Key]]] = [] if start in done else [(start, iter(calls[start]))]
        open_: set[Key] = {start}
        while path:
            key, rest = path[-1]
            following = next((name for name in rest if name not in done), None)
            if following is None:
                path.pop()
                open_.discard(key)
                done.add(key)
                sizes[key] = min(sizes[key] + sum(sizes[name] for name in calls[key]), MOST_NODES + 1)
            elif following in open_:
                raise InputError(
                    f"{where} is not a valid ONNX model: its function {following[1]!r} calls itself"
                )
            else:
                path.append((following, iter(calls[following])))
                open_.add(following)
    total = sum(1 + sizes.get(_called(node), 0) for node in nested(model.graph.node))
    if total > MOST_NODES:
        raise InputError(
            f"{where} has more than {MOST_NODES} nodes where its functions are called: use a smaller model"
        )


def _key(function: onnx.FunctionProto) -> Key:
    return function.domain, function.name, function.overload


def _called(node: onnx.NodeProto) -> Key:
    return node.domain, node.op_type, node.overload


def _follow(function: onnx.FunctionProto, opset: int) -> None:
    """Let a function use the model's operator set, where its operators mean the same in both."""
    own = opset_of(function.opset_import)
    if own in (0, opset):
        return
    standard = {node.op_type for node in nested(function.node) if node.domain in DEFAULT_DOMAINS}
    if all(_since(name, own) == _since(name, opset) != 0 for name in standard):
        for entry in function.opset_import:
            if entry.domain in DEFAULT_DOMAINS:
                entry.version = opset


def _since(name: str, opset: int) -> int:
    """Return the version that an operator was last changed in; 0 where there is none."""
    if opset != _known(opset) or not onnx.defs.has(name, opset, ""):
        return 0
    return int(onnx.defs.get_schema(name, opset, "").since_version)
