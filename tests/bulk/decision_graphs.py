"""Decisions of our own, each with tests of its own: one construct of the language each, with inputs that are missing, nested and listed."""

from typing import Any, Final

Json = Any


def node(name: str, kind: str, **content: Json) -> dict[str, Json]:
    return {"id": name, "name": name, "type": kind, "position": {"x": 0, "y": 0}, "content": content}


def lines(name: str, **expressions: str) -> dict[str, Json]:
    """Return an expression node; a double underscore in a key is a dot, and keys of the node itself begin with one."""
    options = {key.removeprefix("_"): value for key, value in expressions.items() if key.startswith("_")}
    found = [
        {"id": key, "key": key.replace("__", "."), "value": value}
        for key, value in expressions.items()
        if not key.startswith("_")
    ]
    return node(name, "expressionNode", expressions=found, **options)


def table(
    name: str, inputs: list[str], outputs: list[str], *rules: tuple[str, ...], **options: Json
) -> dict[str, Json]:
    ins = [{"id": f"i{i}", "name": field, "field": field} for i, field in enumerate(inputs)]
    outs = [{"id": f"o{i}", "name": field, "field": field} for i, field in enumerate(outputs)]
    keys = [column["id"] for column in (*ins, *outs)]
    rows = [{"_id": str(i), **dict(zip(keys, rule, strict=True))} for i, rule in enumerate(rules)]
    content = {"hitPolicy": "first", "inputs": ins, "outputs": outs, "rules": rows} | options
    return node(name, "decisionTableNode", **content)


def switch(name: str, *conditions: str, policy: str = "first") -> dict[str, Json]:
    statements = [{"id": f"{name}{i}", "condition": condition} for i, condition in enumerate(conditions)]
    return node(name, "switchNode", hitPolicy=policy, statements=statements)


def graph(nodes: list[dict[str, Json]], edges: str, *tests: tuple[Json, Json]) -> dict[str, Json]:
    """Return a decision; edges are written `a>b`, and `s.1>b` for the second way out of a switch."""
    found = []
    for i, edge in enumerate(edges.split()):
        source, target = edge.split(">")
        name, _, way = source.partition(".")
        handle = {"sourceHandle": f"{name}{way}"} if way else {}
        found.append({"id": f"e{i}", "type": "edge", "sourceId": name, "targetId": target} | handle)
    said = [{"input": given, "output": wanted} for given, wanted in tests]
    return {"tests": said, "nodes": [node("in", "inputNode"), *nodes], "edges": found}


FEE: Final = table("fee", ["age"], ["fee"], ("< 18", "0"), ("", "20"))

GRAPHS: Final[dict[str, dict[str, Json]]] = {
    "a table": graph([FEE], "in>fee", ({"age": 7}, {"fee": 0}), ({"age": 70}, {"fee": 20}), ({}, {"fee": 20})),
    "a table without a catch-all": graph(
        [table("t", ["tier"], ["gift", "free"], ('"gold"', '"pen"', "true"))],
        "in>t",
        ({"tier": "gold"}, {"gift": "pen", "free": True}),
        ({"tier": "tin"}, {}),
    ),
    "only a switch asks": graph(
        [switch("s", "region == 'EU'", ""), lines("eu", vat="0.2"), lines("other", vat="0")],
        "in>s s.0>eu s.1>other",
        ({"region": "EU"}, {"vat": 0.2}),
        ({"region": "US"}, {"vat": 0}),
        ({}, {"vat": 0}),
    ),
    "a switch that takes every way": graph(
        [switch("s", "a > 1", "b > 1", policy="collect"), lines("x", x="a * 2"), lines("y", y="b * 2")],
        "in>s s.0>x s.1>y",
        ({"a": 2, "b": 3}, {"x": 4, "y": 6}),
        ({"a": 2, "b": 0}, {"x": 4}),
    ),
    "nested names": graph(
        [table("t", ["customer.age", "customer.tier"], ["offer.rate"], (">= 18", '"gold"', "0.1"), ("", "", "0.3"))],
        "in>t",
        ({"customer": {"age": 30, "tier": "gold"}}, {"offer": {"rate": 0.1}}),
        ({"customer": {"age": 30}}, {"offer": {"rate": 0.3}}),
        ({}, {"offer": {"rate": 0.3}}),
    ),
    "a list": graph(
        [
            lines(
                "e",
                total="sum(map(cart.items, #.price * #.count))",
                names="map(cart.items, #.name)",
                n="len(cart.items)",
            )
        ],
        "in>e",
        (
            {"cart": {"items": [{"name": "a", "price": 2, "count": 3}, {"name": "b", "price": 0.5, "count": 2}]}},
            {"total": 7, "names": ["a", "b"], "n": 2},
        ),
    ),
    "names outside a closure": graph(
        [lines("e", over="filter(amounts, # > limit)", some="some(amounts, # > $root.limit)")],
        "in>e",
        ({"amounts": [1, 5, 9], "limit": 4}, {"over": [5, 9], "some": True}),
    ),
    "a template": graph(
        [lines("e", text="`${person.first} ${person.last ?? 'unknown'}: ${upper(code)}`")],
        "in>e",
        ({"person": {"first": "Ada", "last": "L"}, "code": "x"}, {"text": "Ada L: X"}),
        ({"person": {"first": "Ada"}, "code": "x"}, {"text": "Ada unknown: X"}),
    ),
    "what is passed on": graph(
        [lines("a", net="gross / 1.2", _passThrough=True), lines("b", fee="net * rate", _passThrough=True)],
        "in>a a>b",
        ({"gross": 120, "rate": 0.5}, {"gross": 120, "rate": 0.5, "net": 100, "fee": 50}),
    ),
    "what is not passed on": graph(
        [lines("a", net="gross - 1"), lines("b", twice="net * 2", lost="gross ?? 'lost'")],
        "in>a a>b",
        ({"gross": 3}, {"twice": 4, "lost": "lost"}),
    ),
    "a name that is read and written": graph(
        [lines("a", amount="amount + 1", _passThrough=True), lines("b", amount="amount * 2", _passThrough=True)],
        "in>a a>b",
        ({"amount": 4}, {"amount": 10}),
    ),
    "the node's own results": graph(
        [lines("e", a="x + 1", b="$.a * 2", c="$.b > 5 ? 'big' : 'small'")],
        "in>e",
        ({"x": 2}, {"a": 3, "b": 6, "c": "big"}),
        ({"x": 0}, {"a": 1, "b": 2, "c": "small"}),
    ),
    "another node's results": graph(
        [lines("a", y="x + 1"), lines("b", z="$nodes.a.y * 2", w="$nodes.in.k")],
        "in>a a>b",
        ({"x": 1, "k": 9}, {"z": 4, "w": 9}),
    ),
    "a path in and a path out": graph(
        [lines("e", full="`${first} ${last}`", _inputField="customer", _outputPath="customer", _passThrough=True)],
        "in>e",
        ({"customer": {"first": "A", "last": "B"}}, {"customer": {"first": "A", "last": "B", "full": "A B"}}),
    ),
    "a loop over a list": graph(
        [
            lines(
                "e",
                total="price * count",
                _inputField="cart.items",
                _outputPath="cart.items",
                _executionMode="loop",
                _passThrough=True,
            )
        ],
        "in>e",
        (
            {"cart": {"items": [{"price": 2, "count": 3}]}},
            {"cart": {"items": [{"price": 2, "count": 3, "total": 6}]}},
        ),
    ),
    "a loop that gives a list": graph(
        [
            table(
                "t", ["size"], ["box"], ("> 9", '"large"'), ("", '"small"'), inputField="parcels", executionMode="loop"
            )
        ],
        "in>t",
        ({"parcels": [{"size": 1}, {"size": 10}]}, [{"box": "small"}, {"box": "large"}]),
    ),
    "a table that collects": graph(
        [table("t", ["age"], ["reason"], ("< 21", '"young"'), ("< 18", '"minor"'), hitPolicy="collect")],
        "in>t",
        ({"age": 7}, [{"reason": "young"}, {"reason": "minor"}]),
        ({"age": 30}, []),
    ),
    "a table that collects under a name": graph(
        [
            table(
                "t", ["age"], ["reason"], ("< 21", '"young"'), hitPolicy="collect", outputPath="flags", passThrough=True
            ),
            lines("e", ok="len(flags) == 0", why="map(flags, #.reason)"),
        ],
        "in>t t>e",
        ({"age": 7}, {"ok": False, "why": ["young"]}),
        ({"age": 70}, {"ok": True, "why": []}),
    ),
    "cells that compute": graph(
        [table("t", ["weight"], ["price"], ("> limits.light", "weight * rate + 1"), ("", "base"))],
        "in>t",
        ({"weight": 5, "limits": {"light": 2}, "rate": 3, "base": 1}, {"price": 16}),
        ({"weight": 1, "limits": {"light": 2}, "rate": 3, "base": 1}, {"price": 1}),
    ),
    "a column without a field": graph(
        [table("t", [""], ["ok"], ("a > b and kind == 'x'", "true"), ("", "false"))],
        "in>t",
        ({"a": 2, "b": 1, "kind": "x"}, {"ok": True}),
        ({"a": 2, "b": 3, "kind": "x"}, {"ok": False}),
    ),
    "a column that computes": graph(
        [table("t", ["len(items)"], ["size"], ("> 1", '"many"'), ("", '"few"'))],
        "in>t",
        ({"items": ["a", "b"]}, {"size": "many"}),
        ({"items": []}, {"size": "few"}),
    ),
    "objects that are made": graph(
        [lines("e", answer="{ 'ok': score > 1, why: reasons, score: score }")],
        "in>e",
        ({"score": 2, "reasons": ["a"]}, {"answer": {"ok": True, "why": ["a"], "score": 2}}),
    ),
    "keys of an object": graph(
        [lines("e", off="filter(keys(flags), flags[#] == false)", n="count(values(flags), # == true)")],
        "in>e",
        ({"flags": {"a": True, "b": False}}, {"off": ["b"], "n": 1}),
    ),
    "truth values": graph(
        [lines("e", rate="member ? 0.1 : 0.2", both="member and (staff == true)", neither="not member")],
        "in>e",
        ({"member": True, "staff": True}, {"rate": 0.1, "both": True, "neither": False}),
        ({"member": False, "staff": True}, {"rate": 0.2, "both": False, "neither": True}),
    ),
    "numbers that look like text": graph(
        [table("t", ["code"], ["text"], ('"007"', '"bond"'), ("", "code"))],
        "in>t",
        ({"code": "007"}, {"text": "bond"}),
        ({"code": "7"}, {"text": "7"}),
    ),
    "whole numbers in text": graph(
        [lines("e", label="`no ${number}`", next="number + 1")],
        "in>e",
        ({"number": 30}, {"label": "no 30", "next": 31}),
        ({"number": 1.5}, {"label": "no 1.5", "next": 2.5}),
    ),
    "ranges and lists of texts": graph(
        [
            table(
                "t",
                ["age", "land"],
                ["zone"],
                ("[18..65)", '"DE", "FR"', "1"),
                ("", 'not in ["US"]', "2"),
                ("", "", "3"),
            )
        ],
        "in>t",
        ({"age": 18, "land": "FR"}, {"zone": 1}),
        ({"age": 65, "land": "FR"}, {"zone": 2}),
        ({"age": 5, "land": "US"}, {"zone": 3}),
    ),
    "a name that only one branch writes": graph(
        [
            switch("s", "vip", ""),
            lines("a", rate="0.5", _passThrough=True),
            lines("b", seen="true", _passThrough=True),
            lines("c", price="amount * rate"),
        ],
        "in>s s.0>a s.1>b a>c b>c",
        ({"vip": True, "amount": 10, "rate": 2}, {"price": 5}),
        ({"vip": False, "amount": 10, "rate": 2}, {"price": 20}),
    ),
    "an output node": graph(
        [lines("a", x="v + 1"), node("out", "outputNode"), lines("b", y="w")],
        "in>a a>out in>b",
        ({"v": 1, "w": 2}, {"x": 2}),
    ),
    "JavaScript": graph([node("f", "functionNode", source="export const handler = () => ({})")], "in>f", ({}, {})),
    "another file": graph([node("d", "decisionNode", key="other.json")], "in>d", ({}, {})),
}
"""By what each shows; the last two are refused."""
