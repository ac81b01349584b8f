from __future__ import annotations

from nmc.passes.simplify.remove_identity import RemoveIdentity
from tests.passes.simplify.graphs import Builder, kinds, new_context, simplified


def test_everything_that_changes_nothing_goes() -> None:
    build = Builder((2, 3, 4))
    name = build.identity("x")
    name = build.transpose(name, 0, 1, 2)
    name = build.reshape(name, 2, 3, 4)
    name = build.pad(name, (0, 0, 0), (0, 0, 0))
    name = build.slice(name, (0, 2, 1), (0, 3, 1), (0, 4, 1))
    name = build.concat(0, name)
    name = build.pool(name, (1, 1), (1, 1))
    name = build.relu(name, name="first")
    name = build.relu(name)
    build.identity(name)
    graph = simplified(build.graph(), RemoveIdentity())
    assert kinds(graph) == ["Input", "Relu"]
    assert graph.output == "first"


def test_unread_layers_go() -> None:
    build = Builder((2, 3, 4))
    build.conv("x", 2, name="unread")
    build.relu("x", name="out")
    graph = simplified(build.graph("out"), RemoveIdentity())
    assert [layer.name for layer in graph.layers] == ["x", "out"]


def test_what_changes_something_stays() -> None:
    build = Builder((2, 4, 4))
    name = build.transpose("x", 0, 2, 1)
    name = build.slice(name, (0, 2, 1), (0, 4, 2), (0, 4, 1))
    name = build.pad(name, (0, 1, 0), (0, 0, 0))
    build.pool(name, (2, 2), (1, 1))
    graph = build.graph()
    assert RemoveIdentity().run(graph, new_context()) is graph
