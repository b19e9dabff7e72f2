"""The rewriter keeps a graph whole: readers follow, names stay unique, nothing that is read disappears."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnc.errors import InternalError
from snnc.ir.ann import AnnNode, Relu
from snnc.ir.rewriter import Names, Rewriter
from tests.ann_graphs import residual_network


def relu(name: str, source: AnnNode) -> Relu:
    return Relu(name=name, inputs=(source.name,), shape=source.shape)


@given(wishes=st.lists(st.text(alphabet="a_", max_size=3), max_size=12))
def test_fresh_names_are_never_given_twice(wishes: list[str]) -> None:
    names = Names(["a", "a_"])
    given = [names.fresh(wish) for wish in wishes]
    assert len({*given, "a", "a_"}) == len(given) + 2
    assert all(name.startswith(wish) for name, wish in zip(given, wishes, strict=True))


@given(data=st.data())
@settings(max_examples=40)
def test_whatever_is_done_the_graph_verifies_and_readers_are_those_of_the_graph(data: st.DataObject) -> None:
    graph = residual_network()
    rewriter: Rewriter[AnnNode] = Rewriter(graph)
    for _ in range(data.draw(st.integers(1, 8))):
        node = data.draw(st.sampled_from(rewriter.nodes[1:]))
        match data.draw(st.sampled_from(["insert", "replace", "erase", "two"])):
            case "insert":
                new = relu(rewriter.fresh("new"), node)
                rewriter.insert_after(node.name, new)
                rewriter.replace_uses(node.name, new.name)
                assert rewriter.readers(node.name) == (new,)
            case "replace":
                first = node.with_(name=rewriter.fresh("new"))
                rewriter.replace(node.name, first, relu(node.name, first))
            case "erase" if isinstance(node, Relu):
                rewriter.replace_uses(node.name, node.inputs[0])
                rewriter.erase(node.name)
            case "two" if isinstance(node, Relu) and rewriter.readers(node.inputs[0]) == (node,):
                before = rewriter[node.inputs[0]]
                if before is not rewriter.nodes[0]:
                    rewriter.replace((before.name, node.name), before.with_(name=rewriter.fresh("new")))
            case _:
                pass
    found = graph.with_nodes(rewriter.nodes, rewriter.outputs)
    found.verify()
    for node in found:
        assert rewriter.readers(node.name) == found.consumers[node.name]


def test_nothing_done_is_the_same_graph() -> None:
    graph = residual_network()
    rewriter: Rewriter[AnnNode] = Rewriter(graph)
    assert graph.with_nodes(rewriter.nodes, rewriter.outputs) is graph


def test_what_is_read_is_not_taken_out() -> None:
    graph = residual_network()
    with pytest.raises(InternalError, match="'relu0' is taken out, but still read"):
        Rewriter(graph).erase("relu0")
    with pytest.raises(InternalError, match="is taken out, but still read"):
        Rewriter(graph).erase(graph.output)
    with pytest.raises(InternalError, match="a second node would be called 'relu1'"):
        Rewriter(graph).insert_after("relu0", relu("relu1", graph["relu0"]))
    with pytest.raises(InternalError, match="reads 'nothing', which is not there"):
        Rewriter(graph).insert_after("relu0", graph["relu1"].with_(name="new", inputs=("nothing",)))


def test_readers_can_be_chosen() -> None:
    graph = residual_network()
    rewriter: Rewriter[AnnNode] = Rewriter(graph)
    first, *others = (node.name for node in graph.consumers["relu0"])
    rewriter.insert_after("relu0", relu("twin", graph["relu0"]))
    rewriter.replace_uses("relu0", "twin", {first})
    assert [node.name for node in rewriter.readers("twin")] == [first]
    assert [node.name for node in rewriter.readers("relu0")] == ["twin", *others]
