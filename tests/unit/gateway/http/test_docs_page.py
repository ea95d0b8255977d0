"""The documentation page says everything about the models, to people, and runs nothing."""

import html
import json
import re
import shlex
from html.parser import HTMLParser
from itertools import pairwise

import msgspec
import pytest
from google.protobuf import descriptor_pool, json_format, message_factory

from limen.contracts.contract import Contract, Example, Field, Slo
from limen.contracts.openapi.document import ServedContract, openapi
from limen.contracts.proto.descriptor import file_descriptor
from limen.contracts.validation.records import RecordCodec
from limen.contracts.validation.tensors import ContractCheck
from limen.gateway.http.docs.page import docs_page
from limen.gateway.http.docs.snippets import (
    curl_generate,
    curl_records,
    curl_stream,
    curl_tensors,
    grpcurl,
    grpcurl_records,
    python,
)
from limen.gateway.http.oip.tensors import decode_infer
from tests.unit.contracts.served import ALL, CREDIT, CREDIT_1, DIGITS_3, EVERYTHING_1, HALVES_1, TELLER_1

EVIL = """</pre></code></style><script>alert(1)</script><img src=x onerror="alert(1)"> ' " & \\ ${HOME} `id` javascript:alert(1)"""
PAGE = docs_page(ALL, "0.1.0")


class Reader(HTMLParser):
    """Collects the elements and the text of a page and checks that every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "wbr"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def named(self, name):
        """Return the attributes of all elements of a name."""
        return [attributes for tag, attributes in self.elements if tag == name]


def evil_page():
    field = Field(
        name="x",
        type="string",
        title=EVIL,
        description=EVIL,
        unit=EVIL,
        pattern=re.escape(EVIL),
        default=EVIL,
        examples=(EVIL,),
    )
    contract = Contract(
        name="m",
        title=EVIL,
        description=EVIL,
        owner=EVIL,
        licence=EVIL,
        task=EVIL,
        tags=(EVIL,),
        slo=Slo(p95_ms=1),
        inputs=(field, Field(name="e", type="string", enum=(EVIL,))),
        outputs=(Field(name="y", type="float32", shape=(1,), labels=(EVIL,), description=EVIL),),
        examples=(Example(name=EVIL, inputs={"x": EVIL, "e": EVIL}),),
    )
    return docs_page([ServedContract(contract, "1", EVIL)], EVIL, base_url=f"http://{EVIL}", grpc_target=EVIL)


def test_b100_markup_and_scripts_in_a_contract_are_text():
    page = Reader(evil_page())
    assert page.open == []
    assert not {"script", "img", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
    assert "<script>alert(1)</script>" in page.text


def test_b100_every_link_stays_on_the_server():
    links = [a["href"] for a in Reader(evil_page()).named("a")]
    assert links
    assert all(re.fullmatch(r"[#/][\w#/.:-]*", link) for link in links)


def test_the_page_asks_for_nothing_from_anywhere():
    page = Reader(PAGE)
    assert not {"script", "link", "img", "iframe", "form"} & {tag for tag, _ in page.elements}
    assert not [a for _, a in page.elements if "src" in a or "style" in a]
    style = re.search(r"<style>(.*?)</style>", PAGE, re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_everything_about_a_model_is_on_the_page():
    text = " ".join(Reader(PAGE).text.split())
    for wanted in (
        "Credit default",
        "Estimates how likely",
        "risk@example.com",
        "Apache-2.0",
        "tabular, lending",
        "20 ms",
        "100 ms",
        "loan_amount",
        "USD",
        "500 to 40,000",
        "Amount asked for.",
        "required",
        "missing (null)",
        "at most 40 characters",
        "personal",
        "default_probability",
        "0 to 1",
        "list of 2 × 3",
        "2 to 4 bytes",
        "zero, one, two",
    ):
        assert wanted in text, wanted


def test_a_streaming_model_shows_the_calls_that_answer():
    text = Reader(docs_page([TELLER_1], "0.1.0")).text
    for wanted in (
        "/v1/models/teller:stream",
        "/v2/models/teller/generate_stream",
        "inference.GRPCInferenceService/ModelStreamInfer",
        "curl -N http://127.0.0.1:8000/v1/models/teller:stream",
        "curl -N http://127.0.0.1:8000/v2/models/teller/generate_stream",
        "event: end",
    ):
        assert wanted in text, wanted
    assert "/v1/models/teller:predict" not in text
    assert "/v2/models/teller/infer" not in text


def test_the_streaming_commands_carry_bodies_the_server_accepts():
    body = command_body(curl_stream(TELLER_1, "http://127.0.0.1:8000", "/v1/models/m:stream"))
    assert RecordCodec(TELLER_1.contract).decode(body).rows == 1
    generate = msgspec.json.decode(command_body(curl_generate(TELLER_1, "http://127.0.0.1:8000", "/g")))
    assert (generate["text_input"], generate["grid"], generate["last"]) == ("once upon a time", [1, 1, 1, 1], True)


def test_every_endpoint_of_the_openapi_document_is_listed():
    text = Reader(PAGE).text
    for path in openapi(ALL, server_version="0.1.0", title="Limen")["paths"]:
        assert path in text, path


def test_links_lead_to_paths_that_the_server_documents():
    documented = set(openapi(ALL, server_version="0.1.0", title="Limen")["paths"])
    page = Reader(PAGE)
    links = {a["href"] for a in page.named("a")}
    anchors = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link for link in links if link.startswith("/")} <= documented
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    assert "/v1/models/credit.proto" in links


def test_the_page_has_landmarks_headings_in_order_and_table_headers():
    page = Reader(PAGE)
    names = [tag for tag, _ in page.elements]
    assert page.named("html") == [{"lang": "en"}]
    assert (names.count("main"), names.count("nav"), names.count("h1"), names.count("title")) == (1, 1, 1, 1)
    levels = [int(name[1]) for name in names if re.fullmatch(r"h[1-6]", name)]
    in_main = levels[levels.index(1) :]
    assert all(after <= before + 1 for before, after in pairwise(in_main))
    assert all("scope" in attributes for attributes in page.named("th"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def contrast(first: str, second: str) -> float:
    """Return the WCAG contrast ratio of two #rrggbb colours."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_texts_have_enough_contrast(scheme):
    colours = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", rule))
        for rule in re.findall(r":root \{(.*?)\}", PAGE, re.DOTALL)
    ]
    c = colours[scheme]
    pairs = [(c[text], c[ground]) for text in ("text", "quiet", "accent", "post") for ground in ("page", "raised")]
    assert all(contrast(*pair) >= 4.5 for pair in [*pairs, (c["warn"], c["warn-soft"])])


def command_body(command: str) -> bytes:
    """Return what the shell hands to -d."""
    words = shlex.split(command.replace("\\\n", " "))
    return words[words.index("-d") + 1].encode()


@pytest.mark.parametrize("served", ALL, ids=lambda s: s.contract.name)
def test_the_record_command_carries_a_body_the_server_accepts(served):
    body = command_body(curl_records(served, "http://127.0.0.1:8000", "/v1/models/m:predict"))
    assert RecordCodec(served.contract).decode(body).rows == 1


@pytest.mark.parametrize("served", [CREDIT_1, DIGITS_3, EVERYTHING_1], ids=lambda s: s.contract.name)
def test_the_tensor_command_carries_a_body_the_server_accepts(served):
    body = command_body(curl_tensors(served, "http://127.0.0.1:8000", "/v2/models/m/infer"))
    assert ContractCheck(served.contract).check_inputs(decode_infer(body, None)[0].inputs) == 1


def test_a_value_with_quotes_stays_one_argument():
    field = Field(name="x", type="string", examples=('it\'s $HOME `id` \\ "q"',))
    served = ServedContract(Contract(name="m", inputs=(field,), outputs=()), "1", "python")
    body = command_body(curl_records(served, "http://h", "/p"))
    assert json.loads(body) == {"instances": [{"x": 'it\'s $HOME `id` \\ "q"'}]}
    program = python(served, "http://h", "/p")
    record = re.search(r"record = (\{.*?\n\})", program, re.DOTALL)
    assert record
    assert eval(record[1]) == {"x": 'it\'s $HOME `id` \\ "q"'}


@pytest.mark.parametrize("served", ALL, ids=lambda s: s.contract.name)
def test_the_python_example_is_a_program(served):
    compile(python(served, "http://127.0.0.1:8000", "/v1/models/m:predict"), "example", "exec")


@pytest.mark.parametrize("served", ALL, ids=lambda s: s.contract.name)
def test_the_grpc_command_carries_one_entry_a_tensor(served):
    message = msgspec.json.decode(command_body(grpcurl(served, "127.0.0.1:8001")))
    assert [t["name"] for t in message["inputs"]] == [f.name for f in served.contract.inputs]
    raw = "raw_input_contents" in message
    assert raw == (served is HALVES_1)
    assert len(message["raw_input_contents"]) == 2 if raw else all("contents" in t for t in message["inputs"])


@pytest.mark.parametrize("served", [*ALL, TELLER_1], ids=lambda s: s.contract.name)
def test_the_command_with_named_fields_carries_a_message_of_the_models_own_service(served):
    command = grpcurl_records(served, "127.0.0.1:8001")
    file = file_descriptor(served.contract)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.PredictRequest"))
    row = json_format.Parse(command_body(command), kind()).instances[0]
    required = {f.name for f in served.contract.inputs if f.is_required}
    assert required <= {field.name for field, _ in row.ListFields()}
    method = "PredictStream" if served.can_stream else "Predict"
    assert command.endswith(f" {file.package}.{file.service[0].name}/{method}")


def test_each_version_of_a_model_has_its_section_and_its_paths():
    page = docs_page([ServedContract(CREDIT, v, "onnx_onnxv1") for v in ("1", "2")], "0.1.0")
    assert 'id="model-credit-1"' in page
    assert "/v1/models/credit/versions/1:predict" in page
    assert "Credit default (version 2)" in page


def test_a_server_without_models_says_so():
    assert "No model is ready." in docs_page([], "0.1.0")


def test_no_secret_is_on_the_page():
    text = html.unescape(PAGE)
    assert "hush" not in text
    assert "hidden" not in text
    assert "real-person" not in text


def test_a_model_of_images_says_how_to_send_them_in_place_of_an_example():
    image, label = Field(name="x", type="uint8", shape=(3, 640, 640)), Field(name="y", type="int64")
    page = docs_page([ServedContract(Contract(name="m", inputs=(image,), outputs=(label,)), "1", "onnx")], "0.1.0")
    assert "1,228,801 values, too many to show" in Reader(page).text
    assert len(page) < 200_000
