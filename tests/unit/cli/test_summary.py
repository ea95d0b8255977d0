"""What `limen serve` prints once it is ready."""

from limen import __version__
from limen.app import Ready
from limen.cli import words
from limen.cli.commands.serve import _show
from limen.contracts.contract import Contract, Field, Sensitivity
from limen.packaging.manifest import values as manifest
from limen.packaging.manifest.values import Manifest
from limen.serving.messages.lines import ModelSummary
from limen.serving.sources.opening import summary_of


def package(*inputs: Field, name: str = "m", **changes) -> ModelSummary:
    contract = Contract(name=name, inputs=inputs, outputs=(Field(name="y", type="float32"),), **changes)
    return summary_of(contract.name, Manifest(contract=contract, backend="onnx", artifact="model.onnx"))


def shown(capsys, *models: ModelSummary, **changes) -> str:
    ready = Ready(
        **{
            "http": "127.0.0.1:80",
            "grpc": "127.0.0.1:81",
            "pid": 1,
            "models": models,
            "workers": 1,
            "grpc_engine": "native",
            **changes,
        }
    )
    _show(ready)
    return str(capsys.readouterr().out)


def test_models_stand_in_columns(capsys):
    x = Field(name="x", type="float32")
    text = shown(capsys, package(x, name="a", title="A title"), package(x, x, name="longer"), workers=4)
    assert f"  Limen {__version__} is ready, 4 workers\n" in text
    assert "    a       onnx  1 input, 1 output   A title\n    longer  onnx  2 inputs, 1 output\n" in text


def test_the_example_call_is_left_out_when_it_would_show_a_secret_or_not_paste(capsys):
    secret = Field(name="x", type="string", sensitivity=Sensitivity.SECRET)
    quote = Field(name="x", type="string", enum=("it's",))
    wide = Field(name="x", type="float32", shape=(500,))
    for field in (secret, quote, wide):
        assert "curl" not in shown(capsys, package(field))
    assert "curl http://127.0.0.1:80/v1/models/m:predict" in shown(capsys, package(Field(name="x", type="bool")))


def test_endpoints_that_are_not_ready_are_told_from_none(capsys):
    none = shown(capsys)
    assert "Nothing to serve yet" in none
    bad = shown(capsys, waiting=("a", "b"))
    assert "  Not ready: a, b; see `limen endpoint list`.\n" in bad
    assert "Nothing to serve yet" not in bad
    assert "\n\n\n" not in none
    assert "\n\n\n" not in bad


def test_the_command_line_knows_the_name_of_the_manifest():
    assert words.MANIFEST_NAME == manifest.MANIFEST_NAME
