"""Edits an existing `model.yaml`: sets answers of examples and keys of fields; keeps everything else, including comments.

Pure: text in, text out. What comes out is only right if it decodes to what was meant, which callers check. Called by
`authoring.golden` and `authoring.real_data`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from limen.contracts.contract import Example, Json
from limen.packaging.manifest.yaml_text import flow

_ABOUT = "# Examples are run before the model is served; those with outputs are tests."


def file_of_examples(text: str) -> str:
    """Return the file that holds a manifest's examples; empty when the manifest holds them itself."""
    node = _value(yaml.compose(text, Loader=yaml.SafeLoader), "examples")
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def with_answers(text: str, answers: Mapping[int, Mapping[str, Json]]) -> str:
    """Return a manifest whose examples, by their number, have these outputs."""
    listed = _value(yaml.compose(text, Loader=yaml.SafeLoader), "examples")
    edits = [
        _added(text, node, "outputs", dict(answers[i]))
        for i, node in enumerate(listed.value if listed is not None else ())
        if i in answers
    ]
    return _edited(text, edits)


def without_answers(text: str) -> str:
    """Return a manifest whose own examples have no outputs."""
    listed = _value(yaml.compose(text, Loader=yaml.SafeLoader), "examples")
    spans = [
        _span(text, name, value)
        for node in (listed.value if isinstance(listed, yaml.SequenceNode) else ())
        for name, value in (node.value if isinstance(node, yaml.MappingNode) else ())
        if name.value == "outputs"
    ]
    for start, end in sorted(spans, reverse=True):
        text = text[:start] + text[end:]
    return text


def _span(text: str, name: Any, value: Any) -> tuple[int, int]:
    """Return where a key and its value stand: their lines, or in a mapping on one line the comma before them as well."""
    start = name.start_mark.index
    line = text.rfind("\n", 0, start) + 1
    if text[line:start].strip():
        before = text[:start].rstrip()
        return len(before) - 1 if before.endswith(",") else start, value.end_mark.index
    end = _end_of(text, value)
    return line, end if text[:end].endswith("\n") else end + 1


def with_examples(text: str, examples: Sequence[Example]) -> str:
    """Return a manifest without examples with these at its end."""
    lines = ["", _ABOUT, "examples:"]
    for example in examples:
        lines += [f"  - name: {flow(example.name)}", f"    inputs: {flow(dict(example.inputs))}"]
        if example.outputs:
            lines.append(f"    outputs: {flow(dict(example.outputs))}")
    return text.rstrip("\n") + "\n" + "\n".join(lines) + "\n"


def _value(node: Any, key: str) -> Any:
    """Return the node of a key of a mapping, or None."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def _added(text: str, node: Any, key: str, value: Json) -> tuple[int, str]:
    """Return where a mapping ends and what adds a key there, in the style that it is written in."""
    if node.flow_style:
        end = node.end_mark.index - 1
        is_open = not node.value or text[:end].rstrip().endswith(",")
        return end, f"{'' if is_open else ', '}{key}: {flow(value)}"
    end = _end_of(text, node)
    line = " " * node.value[0][0].start_mark.column + f"{key}: {flow(value)}"
    return end, f"{line}\n" if text[:end].endswith("\n") else f"\n{line}"


def _end_of(text: str, node: Any) -> int:
    """Return where the last line of a node ends: past a comment there; a text of several lines ends with its last line break."""
    last = node
    while isinstance(last, yaml.CollectionNode) and not last.flow_style and last.value:
        last = last.value[-1][1] if isinstance(last, yaml.MappingNode) else last.value[-1]
    end: int = last.end_mark.index
    if not text[:end].endswith("\n"):
        end = text.find("\n", end)
    return len(text) if end < 0 else end


def _edited(text: str, edits: Sequence[tuple[int, str]]) -> str:
    for place, added in sorted(edits, reverse=True):
        text = text[:place] + added + text[place:]
    return text
