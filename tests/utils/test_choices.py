"""Choices are listed in order, and near misses are named."""

import pytest
from sklearn.utils._param_validation import InvalidParameterError

from skae._utils.choices import choices, did_you_mean, validate_parameters


def test_choices_keep_their_order():
    """A set would have another order in each process."""
    names = ["zebra", "ant", "mule", "bee", "yak", "cat"]
    listed = ", ".join(map(repr, names))
    assert str(choices(*names)) == f"a str among {{{listed}}}"
    assert choices("a", "b").is_satisfied_by("b")
    assert not choices("a", "b").is_satisfied_by("c")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("laplce", " Did you mean 'laplace'?"),
        ("Laplace", " Did you mean 'laplace'?"),
        ("gaussan", " Did you mean 'gaussian'?"),
        ("normal", " Did you mean 'gaussian'?"),
        ("MSE", " Did you mean 'gaussian'?"),
        ("l2", " Did you mean 'gaussian'?"),
        ("mae", " Did you mean 'laplace'?"),
        ("l1", " Did you mean 'laplace'?"),
        ("bce", ""),  # no 'bernoulli' here
        ("sigmoid", " Did you mean 'logistic'?"),
        ("poisson", ""),
        ("", ""),
        (3, ""),
        (None, ""),
    ],
)
def test_near_misses(value, hint):
    """Only a string that is close to a name has a hint."""
    assert did_you_mean(value, ["gaussian", "laplace", "logistic"]) == hint


def test_validation_adds_the_hint_to_the_message_of_scikit_learn():
    """The first bad parameter raises, and good or unknown ones do not."""
    constraints = {"a": [choices("one", "two"), None], "b": ["boolean"]}
    validate_parameters(constraints, {"a": "two", "b": True, "c": 1}, "Some")
    with pytest.raises(InvalidParameterError) as caught:
        validate_parameters(constraints, {"b": True, "a": "tow"}, "Some")
    assert str(caught.value) == (
        "The 'a' parameter of Some must be a str among {'one', 'two'} or None. Got 'tow' "
        "instead. Did you mean 'two'?"
    )
    with pytest.raises(InvalidParameterError, match=r"Got 5 instead\.$"):
        validate_parameters(constraints, {"a": 5}, "Some")


def test_advice_takes_the_place_of_a_near_miss():
    """It is asked for with the bad parameter, and may be empty."""
    constraints = {"a": [choices("one", "two")]}
    asked = []

    def advice(name, value):
        asked.append((name, value))
        return "Take 'one'." if value == "tow" else ""

    validate_parameters(constraints, {"a": "one"}, "Some", advice)
    assert not asked
    with pytest.raises(InvalidParameterError, match=r"instead\. Take 'one'\.$"):
        validate_parameters(constraints, {"a": "tow"}, "Some", advice)
    with pytest.raises(InvalidParameterError, match=r"Did you mean 'two'\?$"):
        validate_parameters(constraints, {"a": "towo"}, "Some", advice)
    assert asked == [("a", "tow"), ("a", "towo")]
