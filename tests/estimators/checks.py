"""The checks of scikit-learn for several models, those of input for some of them."""

import re

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

# Checks of how a table is read, which no mode or other parameter changes.
OF_INPUT = re.compile(
    "array_api|_sparse_|not_an_array|dtype_object|_list$|n_features_in|complex_data"
    "|fit_score_takes_y|pipeline_consistency|positive_only_tag|1d|empty_data|_tags?$"
)


def name_of(model):
    """Return a test id with the parameters that are not the defaults."""
    return re.sub(r"\s+", " ", repr(model))


def checks_of(models, of_input):
    """List the checks of some models, and those of input of others (or of the same)."""
    found = []
    for model, is_of_input in [(m, False) for m in models] + [(m, True) for m in of_input]:
        for estimator, check in estimator_checks_generator(model):
            name = check.func.__name__
            if bool(OF_INPUT.search(name)) == is_of_input:
                arguments = ", ".join(f"{k}={v}" for k, v in check.keywords.items())
                label = f"{name_of(model)}-{name}({arguments})"
                found.append(pytest.param(estimator, check, id=label))
    return found
