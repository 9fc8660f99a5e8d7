"""Values from files against types: what is accepted, and errors that name the place, the value and the expectation."""

import math
import re
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from skastw.errors import ArtifactError, RunError
from skastw.storage.schema import Count, Finite, Text, check

HUGE = 10**5000


class Row(msgspec.Struct, forbid_unknown_fields=True):
    epoch: Count
    loss: float = 0.0


class Part(msgspec.Struct, forbid_unknown_fields=True):
    start: float
    end: float

    def __post_init__(self):
        if self.end <= self.start:
            raise ValueError(f"Got end={self.end:g}, expected more than start={self.start:g}.")


class Page(msgspec.Struct, forbid_unknown_fields=True):
    """Has a field of each kind that files have."""

    name: Text
    history: list[Row] = []
    hashes: dict[str, str] = {}
    parts: dict[str, list[Part]] = {}
    folds: Annotated[int, Meta(ge=2)] | Literal["own"] | None = None
    share: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    metric: Literal["accuracy", "f1"] = "f1"
    average: bool = False
    rate: Finite = 0.1
    label: str | int | float | bool = ""
    anything: Any = None


class Open(msgspec.Struct):
    name: str


def test_values_become_an_object_with_its_defaults():
    page = check({"name": "owls", "history": [{"epoch": 1, "loss": 0.5}]}, Page, "page", RunError)
    assert page == Page("owls", [Row(1, 0.5)])
    assert page.metric == "f1"


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        ({"share": 0.25}, "share", 0.25),
        ({"rate": 1}, "rate", 1.0),
        ({"label": True}, "label", True),
        ({"label": 3}, "label", 3),
        ({"folds": "own"}, "folds", "own"),
        ({"folds": 10**30}, "folds", 10**30),
        ({"folds": None}, "folds", None),
        ({"history": ()}, "history", []),
        ({"anything": {"a": [1, {2: None}]}}, "anything", {"a": [1, {2: None}]}),
    ],
)
def test_a_value_of_the_type_is_accepted_as_it_is(values, name, expected):
    value = getattr(check({"name": "owls", **values}, Page, "page", RunError), name)
    assert (value, type(value)) == (expected, type(expected))


def test_a_float_may_be_nan_where_the_type_has_no_bound():
    row = check({"epoch": 1, "loss": math.nan}, Row, "page", RunError)
    assert math.isnan(row.loss)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"name": 3}, "has name: 3, expected text that is not empty."),
        ({"name": ""}, "has name: '', expected text that is not empty."),
        ({"name": b"owls"}, "has name: b'owls', expected text that is not empty."),
        ({"folds": True}, "has folds: True, expected an integer of at least 2 or 'own' or null."),
        ({"folds": 1}, "has folds: 1, expected an integer of at least 2 or 'own' or null."),
        ({"folds": 3.0}, "has folds: 3.0, expected an integer of at least 2 or 'own' or null."),
        ({"share": "0.5"}, "has share: '0.5', expected a number above 0 and below 1."),
        ({"share": 1}, "has share: 1, expected a number above 0 and below 1."),
        ({"share": math.nan}, "has share: nan, expected a number above 0 and below 1."),
        ({"share": True}, "has share: True, expected a number above 0 and below 1."),
        ({"metric": "f2"}, "has metric: 'f2', expected 'accuracy' or 'f1'."),
        ({"metric": ["f1"]}, "has metric: ['f1'], expected 'accuracy' or 'f1'."),
        ({"average": 1}, "has average: 1, expected true or false."),
        ({"average": None}, "has average: None, expected true or false."),
        ({"rate": math.nan}, "has rate: nan, expected a finite number."),
        ({"rate": -math.inf}, "has rate: -inf, expected a finite number."),
        ({"rate": HUGE}, "has rate: a huge integer, expected a finite number."),
        ({"label": None}, "has label: None, expected text or an integer or a number or true or false."),
        ({"history": {}}, "has history: {}, expected a list."),
        ({"history": "ab"}, "has history: 'ab', expected a list."),
        ({"history": [{"epoch": 1}, 2]}, "has history[1]: 2, expected a mapping with 'epoch', 'loss'."),
        ({"history": [{"epoch": 1}, {"epoch": -1}]}, "has history[1].epoch: -1, expected an integer of at least 0."),
        ({"history": [{"epoch": True}]}, "has history[0].epoch: True, expected an integer of at least 0."),
        ({"history": [{"epoch": 1, "loss": None}]}, "has history[0].loss: None, expected a number."),
        ({"history": [{"loss": 1}]}, "has no 'epoch' in history[0], expected a mapping with 'epoch', 'loss'."),
        ({"history": [{"epoch": 1, "los": 1}]}, "has the unknown name 'los' in history[0]; did you mean 'loss'?"),
        ({"hashes": {"a": "1", "README.md": 2}}, "has hashes['README.md']: 2, expected text."),
        ({"hashes": {"a": "1", "b": 2}}, "has hashes.b: 2, expected text."),
        ({"hashes": {1: "a"}}, "has hashes: {1: 'a'}, expected a mapping of names to values."),
        ({"hashes": ["a"]}, "has hashes: ['a'], expected a mapping of names to values."),
        ({"parts": {"owl": [{"start": 1, "end": 2}, {"start": 2}]}}, "has no 'end' in parts.owl[1]"),
        ({"nam": 1}, "has the unknown name 'nam'; did you mean 'name'?"),
        ({"xyz": 1}, "has the unknown name 'xyz', expected one of 'name', 'history', 'hashes'"),
        ({3: 1}, "has the unknown name 3, expected one of 'name'"),
        ({HUGE: 1}, "has the unknown name a huge integer, expected one of 'name'"),
    ],
)
def test_another_value_is_an_error_that_names_place_value_and_expectation(values, problem):
    with pytest.raises(RunError, match=f"^{re.escape(repr('my page') + ' ' + problem)}"):
        check({"name": "owls", **values}, Page, "my page", RunError)


@pytest.mark.parametrize("value", [None, 3, "name: owls", [{"name": "owls"}], math.nan])
def test_what_is_no_mapping_is_named(value):
    with pytest.raises(RunError, match=rf"^'page' holds {re.escape(repr(value))}, expected a mapping with 'name', "):
        check(value, Page, "page", RunError)


def test_a_condition_of_a_record_speaks_for_itself():
    parts = {"owl": [{"start": 1, "end": 2}, {"start": 2, "end": 1}]}
    with pytest.raises(
        RunError, match=r"^'page' is not valid in parts\.owl\[1\]: Got end=1, expected more than start="
    ):
        check({"name": "owls", "parts": parts}, Page, "page", RunError)
    with pytest.raises(RunError, match=r"^'page' is not valid: Got end=1, expected more than start=2\.$"):
        check({"start": 2, "end": 1}, Part, "page", RunError)


def test_the_error_is_the_one_that_was_asked_for_and_hides_the_library():
    with pytest.raises(ArtifactError, match=r"'labels\.json' has no 'name'") as raised:
        check({}, Page, "labels.json", ArtifactError)
    assert raised.value.__suppress_context__
    assert "$" not in str(raised.value)


def test_other_types_than_records_are_checked_too():
    assert check([1, 2.5, "a"], list[str | int | float], "labels.json", ArtifactError) == [1, 2.5, "a"]
    with pytest.raises(
        ArtifactError, match=r"'labels.json' has \[1\]: None, expected text or an integer or a number\."
    ):
        check([1, None], list[str | int | float], "labels.json", ArtifactError)


def test_a_part_of_a_file_is_named_by_its_place():
    for value, problem in [(["a", 1], r"has labels\[1\]: 1, expected text\."), (3, "has labels: 3, expected a list")]:
        with pytest.raises(ArtifactError, match=rf"^'labels\.json' {problem}"):
            check(value, list[str], "labels.json", ArtifactError, place="labels")
    with pytest.raises(ArtifactError, match=r"^'metrics\.json' has the unknown name 'los' in history\[3\]; did you"):
        check({"epoch": 1, "los": 1}, Row, "metrics.json", ArtifactError, place="history[3]")


def test_an_open_record_ignores_names_that_came_later():
    assert check({"name": "owls", "later": 1}, Open, "config.json", ArtifactError) == Open("owls")


def test_an_error_is_short_however_long_the_value():
    with pytest.raises(RunError) as raised:
        check({"name": ["owl"] * 10_000}, Page, "page", RunError)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "owls", "metric": "\ud800"}, "'page' has metric: '\\ud800', expected 'accuracy' or 'f1'."),
        ({"name": "owls", "\ud800": 1}, "'page' has the unknown name '\\ud800', expected one of"),
    ],
)
def test_half_of_a_surrogate_pair_is_like_any_other_wrong_text(values, message):
    with pytest.raises(RunError, match=re.escape(message)):
        check(values, Page, "page", RunError)
