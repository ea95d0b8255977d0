"""Contracts that the tests of the generated documents share: a usual one, a matrix, and one of everything."""

from __future__ import annotations

from limen.contracts.contract import Batching, Contract, Example, Field, Sensitivity, Slo
from limen.contracts.openapi.document import ServedContract

CREDIT = Contract(
    name="credit",
    title="Credit default",
    description="Estimates how likely a loan is not to be paid back.",
    owner="risk@example.com",
    licence="Apache-2.0",
    tags=("tabular", "lending"),
    task="classification",
    slo=Slo(p95_ms=20, deadline_ms=100),
    batching=Batching(max_rows=256, max_request_rows=64),
    inputs=(
        Field(
            name="loan_amount", type="float32", unit="USD", minimum=500, maximum=40000, description="Amount asked for."
        ),
        Field(name="term_months", type="int16", unit="months", enum=(36, 60), description="Time to pay back."),
        Field(name="grade", type="string", enum=("A", "B", "C", "D", "E", "F", "G"), description="Lender's grade."),
        Field(
            name="employment_years", type="float32", unit="years", minimum=0, maximum=60, nullable=True, finite=False
        ),
        Field(name="purpose", type="string", max_length=40, default="other", examples=("car", "house")),
        Field(name="applicant_ref", type="string", max_length=32, default="", sensitivity=Sensitivity.PERSONAL),
    ),
    outputs=(
        Field(name="default_probability", type="float32", minimum=0, maximum=1, description="Chance of default."),
        Field(name="decision", type="string", enum=("accept", "refer", "decline"), description="What to do."),
    ),
    examples=(
        Example(
            name="A small car loan",
            inputs={
                "loan_amount": 6000,
                "term_months": 36,
                "grade": "B",
                "employment_years": 4,
                "purpose": "car",
                "applicant_ref": "real-person-17",
            },
            outputs={"default_probability": 0.031, "decision": "accept"},
        ),
    ),
)

DIGITS = Contract(
    name="digits-2.net",
    title="Digits",
    inputs=(Field(name="pixels", type="float32", shape=(2, 3), minimum=0, maximum=1),),
    outputs=(
        Field(name="scores", type="float32", shape=(3,), labels=("zero", "one", "two"), finite=False),
        Field(name="digit", type="int64", minimum=0, maximum=9),
    ),
)

EVERYTHING = Contract(
    name="everything",
    description='One field of each type <script>alert(1)</script> & "quotes".',
    inputs=(
        Field(name="flag", type="bool"),
        Field(name="tiny", type="int8", minimum=-5),
        Field(name="big", type="int64"),
        Field(name="huge", type="uint64"),
        Field(name="single", type="float32"),
        Field(name="double", type="float64", minimum=0.125, maximum=0.25),
        Field(name="word", type="string", pattern="^[A-Z]{2}[0-9]{3,5}$", min_length=6),
        Field(name="blob", type="bytes", min_length=2, max_length=4),
        Field(name="grid", type="int32", shape=(2, 2), maximum=9),
        Field(name="token", type="string", sensitivity=Sensitivity.SECRET, examples=("hush-hush",), default="hidden"),
    ),
    outputs=(
        Field(name="text", type="string"),
        Field(name="raw", type="bytes"),
        Field(name="count", type="uint32"),
    ),
    examples=(Example(inputs={"flag": False, "token": "golden-hush"}, outputs={"text": "fine"}),),
)

HALVES = Contract(
    name="halves",
    inputs=(Field(name="half", type="float16", shape=(2,)), Field(name="brain", type="bfloat16", maximum=0)),
    outputs=(Field(name="sum", type="float32"),),
)

TELLER = Contract(
    name="teller",
    title="Teller",
    inputs=(
        Field(name="text_input", type="string", max_length=50, examples=("once upon a time",)),
        Field(name="grid", type="int32", shape=(2, 2), minimum=0, default=[[0, 0], [0, 0]]),
        Field(name="weights", type="float32", shape=(-1,), default=[1]),
        Field(name="pairs", type="int8", shape=(-1, 2), default=[[1, 2]]),
        Field(name="loose", type="int8", shape=(-1, -1), default=[[1]]),
        Field(name="last", type="bool", shape=(1,), default=[True]),
        Field(name="mood", type="string", nullable=True, enum=("calm", "wild")),
    ),
    outputs=(
        Field(name="text_output", type="string"),
        Field(name="scores", type="float32", shape=(2,), finite=False),
        Field(name="grid", type="int32", shape=(2, 2)),
        Field(name="chances", type="float64", shape=(-1,), nullable=True),
    ),
)

CREDIT_1 = ServedContract(contract=CREDIT, version="1", platform="onnx_onnxv1")
DIGITS_3 = ServedContract(contract=DIGITS, version="3", platform="limen_python")
EVERYTHING_1 = ServedContract(contract=EVERYTHING, version="1", platform="limen_python")
HALVES_1 = ServedContract(contract=HALVES, version="1", platform="onnx_onnxv1")
TELLER_1 = ServedContract(contract=TELLER, version="1", platform="python", can_stream=True)
"""A model that answers in parts; not in ALL, whose models are all asked in the same ways."""
ALL = (CREDIT_1, DIGITS_3, EVERYTHING_1, HALVES_1)
