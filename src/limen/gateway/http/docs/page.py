"""The documentation page of a server: one HTML document generated from the contracts of its models.

Self-contained: no scripts, no requests, nothing but inline style, so it works under the strictest content security policy.
Whatever an owner wrote in a contract is text here (see `gateway.http.docs.markup`). The data for programs is `contracts.openapi.document`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from limen.contracts.contract import Field, Sensitivity
from limen.contracts.openapi.document import ServedContract, default_versions, openapi
from limen.contracts.openapi.tensor_schema import needs_binary
from limen.contracts.tensors import Kind
from limen.gateway.http.docs import snippets
from limen.gateway.http.docs.markup import Child, Html, joined, tag, trusted
from limen.gateway.http.docs.style import STYLE

_INPUT_COLUMNS: Final = ("Name", "Type", "Unit", "Allowed", "If left out", "Sensitivity", "Meaning")
_OUTPUT_COLUMNS: Final = ("Name", "Type", "Unit", "Range", "Sensitivity", "Meaning")
_EVERY_VALUE: Final = 40
"""Enums longer than this are cut; the contract has all of them."""
_GRPC: Final = (
    ("inference.GRPCInferenceService", "The Open Inference Protocol: health, metadata, ModelInfer, ModelStreamInfer."),
    (
        "limen.models.NAME.vMAJOR.Name",
        "A service for each model, with the named fields of its contract: Predict, PredictStream.",
    ),
    ("grpc.health.v1.Health", "Standard health: Check and Watch, of the server and of each model."),
    ("grpc.reflection.v1.ServerReflection", "Describes the services to grpcurl and other tools."),
)
_STATUSES: Final = (
    ("400", "The request breaks the protocol or the contract; details lists every mistake with its path."),
    ("404", "No such model or version."),
    ("413, 415", "The body is too large, or of an unsupported type or encoding."),
    ("429, 503", "A limit is reached, or the model is not ready; try again after Retry-After seconds."),
    ("500", "A fault of the model or of the server."),
    ("504", "The request missed its deadline."),
)


def docs_page(
    contracts: Sequence[ServedContract],
    server_version: str,
    *,
    base_url: str = "http://127.0.0.1:8000",
    grpc_target: str = "127.0.0.1:8001",
) -> str:
    """Return the HTML of the documentation page.

    Args:
        contracts: what is served; every version gets a section.
        server_version: the version of Limen.
        base_url: where the examples call the server over HTTP.
        grpc_target: where the examples call it over gRPC.
    """
    document = openapi(contracts, server_version=server_version, title="Limen")
    defaults = {served.contract.name: served for served in default_versions(contracts)}
    models = [
        _model(served, base_url.rstrip("/"), grpc_target, is_default=defaults[served.contract.name] is served)
        for served in contracts
    ]
    main = tag(
        "main",
        tag("h1", "Models on this server"),
        tag("p", _summary(len(defaults)), class_="lead"),
        *models,
        _endpoints(document),
        _errors(),
        tag("footer", f"Limen {server_version}. Generated from the contracts of the models currently served."),
        id="main",
    )
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#main", class_="skip"),
        tag("div", _side(contracts, server_version), main, class_="layout"),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", "Limen: models and their contracts"),
        tag("style", trusted(STYLE)),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _summary(count: int) -> Html:
    number = {0: "No model is ready.", 1: "One model is served."}.get(count, f"{count} models are served.")
    return joined(
        f"{number} Each takes rows of named fields or tensors, over REST and gRPC, and checks requests "
        "against its contract. For tools: ",
        tag("a", "openapi.json", href="/openapi.json"),
        ".",
    )


def _side(contracts: Sequence[ServedContract], server_version: str) -> Html:
    links = [tag("li", tag("a", _heading(s, contracts), href=f"#{_anchor(s)}")) for s in contracts]
    server = [("Endpoints", "#endpoints"), ("gRPC services", "#grpc"), ("Errors", "#errors")]
    return tag(
        "nav",
        tag("p", "Limen", tag("small", f"version {server_version}"), class_="brand"),
        *((tag("h2", "Models"), tag("ul", *links)) if links else ()),
        tag("h2", "Server"),
        tag("ul", *(tag("li", tag("a", text, href=href)) for text, href in server)),
        class_="side",
        aria_label="Contents",
    )


def _heading(served: ServedContract, contracts: Sequence[ServedContract]) -> str:
    several = sum(s.contract.name == served.contract.name for s in contracts) > 1
    title = served.contract.title or served.contract.name
    return f"{title} (version {served.version})" if several else title


def _anchor(served: ServedContract) -> str:
    return f"model-{served.contract.name}-{served.version}"


# -- one model ------------------------------------------------------------------------------------------------------------


def _model(served: ServedContract, base_url: str, grpc_target: str, *, is_default: bool) -> Html:
    contract = served.contract
    part = f"{contract.name}" if is_default else f"{contract.name}/versions/{served.version}"
    anchor = _anchor(served)
    return tag(
        "section",
        tag("h2", contract.title or contract.name, id=anchor),
        tag("p", tag("code", contract.name), f", version {served.version}, {served.platform}", class_="id"),
        *(tag("p", part) for part in contract.description.split("\n\n") if part.strip()),
        _calls(part, can_stream=served.can_stream),
        _facts(served),
        _files(contract.name, part, is_default=is_default),
        tag("h3", "Takes"),
        _table(_INPUT_COLUMNS, [_input_row(f) for f in contract.inputs], "Inputs"),
        tag("h3", "Gives"),
        _table(_OUTPUT_COLUMNS, [_output_row(f) for f in contract.outputs], "Outputs"),
        tag("h3", "Try it"),
        tag("p", "Click a box to select all of it.", class_="note"),
        *_snippets(served, part, base_url, grpc_target),
        aria_labelledby=anchor,
    )


def _calls(part: str, *, can_stream: bool) -> Html:
    calls = ((f"/v1/models/{part}:predict", "rows of named fields"), (f"/v2/models/{part}/infer", "tensors"))
    if can_stream:
        calls = (
            (f"/v1/models/{part}:stream", "rows of named fields, answered in parts"),
            (f"/v2/models/{part}/generate_stream", "named inputs, answered in parts"),
        )
    return tag(
        "ul", *(tag("li", _call(path), tag("span", text, class_="note")) for path, text in calls), class_="calls"
    )


def _call(path: str) -> Html:
    return joined(_method("POST"), " ", tag("code", path))


def _method(name: str) -> Html:
    return tag("span", name, class_=f"method {name.lower()}")


def _facts(served: ServedContract) -> Html:
    contract = served.contract
    slo = contract.slo
    facts = {
        "Owner": contract.owner,
        "Licence": contract.licence,
        "Task": contract.task,
        "Tags": ", ".join(contract.tags),
        "95 % of answers within": f"{slo.p95_ms:g} ms" if slo.p95_ms is not None else "",
        "Deadline if none is sent": f"{slo.deadline_ms:g} ms" if slo.deadline_ms is not None else "",
        "Rows in one request": f"up to {contract.batching.max_request_rows:,}",
        "Streams": "as server-sent events, and over gRPC" if served.can_stream else "",
    }
    return tag(
        "dl", *(tag("div", tag("dt", name), tag("dd", text)) for name, text in facts.items() if text), class_="facts"
    )


def _files(name: str, part: str, *, is_default: bool) -> Html:
    links = [("Contract (JSON)", f"/v1/models/{part}/contract")]
    if is_default:
        links += [("OpenAPI", f"/v1/models/{name}/openapi.json"), (".proto", f"/v1/models/{name}.proto")]
    return tag("ul", *(tag("li", tag("a", text, href=href)) for text, href in links), class_="files")


def _snippets(served: ServedContract, part: str, base_url: str, grpc_target: str) -> Iterator[Html]:
    if large := snippets.too_large(served):
        yield tag("p", large, class_="note")
        return
    predict, infer = f"/v1/models/{part}:predict", f"/v2/models/{part}/infer"
    if served.can_stream:
        stream, generate = f"/v1/models/{part}:stream", f"/v2/models/{part}/generate_stream"
        records = snippets.curl_stream(served, base_url, stream)
        yield _box("curl, named fields", records, snippets.stream_answer(served), is_open=True)
        yield _box("curl, named inputs (generate)", snippets.curl_generate(served, base_url, generate))
        yield _box("grpcurl (Open Inference Protocol)", snippets.grpcurl(served, grpc_target))
        yield _box("grpcurl (named fields)", snippets.grpcurl_records(served, grpc_target))
        return
    yield _box(
        "curl, named fields",
        snippets.curl_records(served, base_url, predict),
        snippets.answer(served),
        # Without a golden answer the one that is shown is made up within the contract.
        "answers with" if snippets.has_golden_answer(served) else "answers with something like",
        is_open=True,
    )
    yield _box("Python, named fields", snippets.python(served, base_url, predict))
    if needs_binary(served.contract):
        text = "16-bit floats travel as raw bytes only: use the binary tensor data extension, or gRPC."
        yield tag("p", text, class_="note")
    else:
        yield _box("curl, tensors (Open Inference Protocol)", snippets.curl_tensors(served, base_url, infer))
    yield _box("grpcurl (Open Inference Protocol)", snippets.grpcurl(served, grpc_target))
    yield _box("grpcurl (named fields)", snippets.grpcurl_records(served, grpc_target))


def _box(title: str, text: str, answer: str = "", says: str = "answers with", *, is_open: bool = False) -> Html:
    parts = [_code(text, f"Example: {title}")]
    if answer:
        parts += [tag("p", says, class_="answer"), _code(answer, f"Answer: {title}")]
    return tag("details", tag("summary", title), *parts, **({"open": ""} if is_open else {}))


def _code(text: str, label: str) -> Html:
    # Reachable with the keyboard, because a long line scrolls.
    return tag("pre", tag("code", text), tabindex="0", role="region", aria_label=label)


# -- fields ---------------------------------------------------------------------------------------------------------------


def _input_row(field: Field) -> list[Child]:
    return [_name(field), _type(field), field.unit, _allowed(field), _left_out(field), _mark(field), _meaning(field)]


def _output_row(field: Field) -> list[Child]:
    return [_name(field), _type(field), field.unit, _allowed(field), _mark(field), _meaning(field)]


def _name(field: Field) -> Html:
    # A long name may break after an underscore, and nowhere else.
    words = field.name.split("_")
    return tag("code", *(joined(f"{word}_", tag("wbr")) for word in words[:-1]), words[-1])


def _type(field: Field) -> Html:
    if not field.shape:
        return tag("code", field.type, class_="nowrap")
    size = "any number" if field.shape == (-1,) else " × ".join("any" if d < 0 else str(d) for d in field.shape)
    return joined(tag("code", field.type, class_="nowrap"), " ", tag("span", f"list of {size}", class_="note"))


def _allowed(field: Field) -> Child:
    if field.enum is not None:
        shown = [tag("code", _value(v)) for v in field.enum[:_EVERY_VALUE]]
        more = len(field.enum) - len(shown)
        rest = [tag("span", f"and {more} more", class_="note")] if more > 0 else []
        return tag("span", *shown, *rest, class_="values")
    texts: list[Child] = []
    low, high = field.minimum, field.maximum
    if low is not None and high is not None:
        texts.append(f"{low:,} to {high:,}")
    elif low is not None:
        texts.append(f"≥ {low:,}")
    elif high is not None:
        texts.append(f"≤ {high:,}")
    if field.min_length is not None or field.max_length is not None:
        texts.append(_lengths(field))
    if field.pattern is not None:
        texts.append(joined("matches ", tag("code", field.pattern)))
    if field.is_float and not field.finite:
        texts.append("may be NaN")
    return joined(*_between(texts, ", "))


def _lengths(field: Field) -> str:
    noun = "bytes" if field.element.kind is Kind.BINARY else "characters"
    if field.min_length is None:
        return f"at most {field.max_length:,} {noun}"
    if field.max_length is None:
        return f"at least {field.min_length:,} {noun}"
    return f"{field.min_length:,} to {field.max_length:,} {noun}"


def _left_out(field: Field) -> Child:
    if field.is_required:
        return "required"
    if not field.has_default:
        return "missing (null)"
    if field.sensitivity is Sensitivity.SECRET:
        return "a default"
    return tag("code", _value(field.default))


def _mark(field: Field) -> Html:
    return tag("span", field.sensitivity.value, class_=f"mark {field.sensitivity.value}")


def _meaning(field: Field) -> Child:
    title = [tag("strong", field.title)] if field.title else []
    labels = f"In order: {', '.join(field.labels)}." if field.labels and len(field.labels) <= _EVERY_VALUE else ""
    return joined(*_between([*title, *filter(None, (field.description, labels))], " "))


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) or not value else value


def _between(parts: Sequence[Child], separator: str) -> Iterator[Child]:
    for i, part in enumerate(parts):
        if i:
            yield separator
        yield part


def _table(columns: Sequence[str], rows: Iterable[Sequence[Child]], label: str) -> Html:
    """Return a table that turns into cards on a narrow screen; the roles keep it a table there for screen readers."""
    rows = list(rows)
    # A column that says nothing about any field is only noise.
    used = [i for i in range(len(columns)) if i == 0 or any(row[i] for row in rows)]
    head = tag("tr", *(tag("th", columns[i], scope="col", role="columnheader") for i in used), role="row")
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row", role="rowheader"),
            *(_cell(columns[i], row[i]) for i in used[1:]),
            role="row",
        )
        for row in rows
    ]
    return tag(
        "table",
        tag("thead", head, role="rowgroup"),
        tag("tbody", *body, role="rowgroup"),
        class_="cards",
        role="table",
        aria_label=label,
    )


def _cell(column: str, content: Child) -> Html:
    if not content:
        return tag("td", "", class_="empty", role="cell")
    # One child, so that label and content are the two columns of a card's line.
    return tag("td", tag("span", content), role="cell", data_label=column)


# -- the server -----------------------------------------------------------------------------------------------------------


def _endpoints(document: dict[str, Any]) -> Html:
    groups: dict[str, list[tuple[str, str, str]]] = {t["name"]: [] for t in document["tags"]}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            groups[operation["tags"][0]].append((method.upper(), path, operation["summary"]))
    boxes = [
        tag(
            "details",
            tag("summary", "The server itself" if name == "server" else name, f" ({len(rows)})"),
            tag("div", _endpoint_table(name, rows), class_="inside"),
        )
        for name, rows in groups.items()
    ]
    services = [[tag("code", name), text] for name, text in _GRPC]
    return tag(
        "section",
        tag("h2", "Every endpoint", id="endpoints"),
        tag("p", "Paths work with and without a trailing slash. Every GET also supports HEAD."),
        *boxes,
        tag("h3", "gRPC services", id="grpc"),
        _table(("Service", "What it is for"), services, "gRPC services"),
        aria_labelledby="endpoints",
    )


def _endpoint_table(name: str, rows: Iterable[tuple[str, str, str]]) -> Html:
    cells: list[list[Child]] = [[_method(method), tag("code", path), summary] for method, path, summary in rows]
    return _table(("Method", "Path", "What it is for"), cells, f"Endpoints of {name}")


def _errors() -> Html:
    body = '{"error": "…", "code": "…", "request_id": "…", "details": [{"path": "…", "reason": "…"}]}'
    return tag(
        "section",
        tag("h2", "Errors", id="errors"),
        tag("p", "Every error has the same form and never repeats a value from the request: ", tag("code", body)),
        _table(("Status", "What it means"), [[tag("span", s), t] for s, t in _STATUSES], "Statuses of errors"),
        aria_labelledby="errors",
    )
