"""A model's own name, as far as it can be kept."""

import pytest

from limen.packaging.importers.draft import model_name


@pytest.mark.parametrize(
    ("own", "name"),
    [
        ("credit_score", "credit_score"),
        ("resnet50.v2-int8", "resnet50.v2-int8"),
        ("3d_unet", "3d_unet"),
        ("Iris_Onnx", "iris_onnx"),
        ("Tone of Texts", "tone-of-texts"),
        ("a..b", "a.b"),
        ("_private_", "private"),
        ("Größe", "gr-sse"),
        ("stats", "model"),
        ("\u4e2d", "model"),
        ("", "model"),
        ("x" * 80, "x" * 63),
    ],
)
def test_a_name_is_kept_or_made_as_near_as_can_be(own, name):
    assert model_name(own) == name
