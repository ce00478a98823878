"""The contract of a fit and of a fitted model, checked on one case."""

import copy
import pickle
import re
import traceback
import warnings
from dataclasses import dataclass, field
from unittest import mock

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

from benchmarks.campaign.tables import mapped
from skae import VariationalAutoencoder
from skae._fitting import trainer
from skae.likelihoods import Mixed
from tests.surroundings import changes, many_settings, process_state

# An easy table, to fit before a fit that fails.
_EASY = np.random.default_rng(0).normal(size=(30, 1))
# Settings that are slow, and have tests of their own; a NaN that torch finds is an error.
_OMITTED = "two threads", "anomalies are detected"
# The first use of some settings imports parts of torch, which add warning filters.
with many_settings(0):
    pass
# The last is numpy's, for a whole number beyond float64, as in all of scikit-learn.
_REFUSALS = (ValueError, TypeError, OverflowError)


@dataclass
class Report:
    """What happened in one case.

    Attributes
    ----------
    outcome : str
        "fitted" or "refused".
    refusal : str
        The message of the exception of a refused fit.
    warnings : list of str
        The messages of the warnings, those of the methods too.
    violations : list of (str, str)
        The kind of each violation of the contract, and its description.
    """

    outcome: str = "fitted"
    refusal: str = ""
    warnings: list[str] = field(default_factory=list)
    violations: list[tuple[str, str]] = field(default_factory=list)

    def violate(self, kind, text):
        """Add a violation, if it is not the same as one before."""
        if (kind, str(text)) not in self.violations:
            self.violations.append((kind, str(text)))


def check(case):
    """Fit and use the estimator of a case, and return what happened."""
    report = Report()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before, bytes_before = process_state(), content(case.X)
        try:
            _check_fit(case, report)
        # The campaign goes on after any error, and reports it.
        except Exception as error:
            report.violate("error", "".join(traceback.format_exception(error)))
        moved = changes(before, process_state())
        if moved:
            report.violate("global state", moved)
        if content(case.X) != bytes_before:
            report.violate("input changed", case.kind)
    for warning in caught:
        _check_warning(warning, report)
    return report


def content(X):
    """Return the bytes of a table of numbers, else a text of its values."""
    if isinstance(X, np.ndarray) and X.dtype != object:
        return X.tobytes()
    return X.to_string() if isinstance(X, pd.DataFrame) else repr(X)


def _check_warning(warning, report):
    """Check that a warning is one that skae or scikit-learn issues on purpose."""
    message = str(warning.message)
    report.warnings.append(f"{warning.category.__name__}: {message}")
    own = warning.filename == __file__
    if own and warning.category in (ConvergenceWarning, UserWarning):
        return
    if re.search(r"sklearn.mixture", warning.filename):
        return  # of the estimator that a user gives as `prior`
    in_sklearn = "sklearn" in warning.filename
    if in_sklearn and warning.category in (ConvergenceWarning, DataConversionWarning):
        return
    where = f"{warning.filename}:{warning.lineno}"
    report.violate("foreign warning", f"{warning.category.__name__}, {where}: {message}")


def _check_fit(case, report):
    """Fit the estimator of a case, and check the outcome."""
    model = clone(case.estimator)
    parameters = repr(model.get_params())
    fitted, refusal = attempt(model, case.X, **case.arguments)
    if repr(model.get_params()) != parameters:
        report.violate("parameters changed", model.get_params())
    if not fitted:
        report.outcome, report.refusal = "refused", _check_refusal(refusal, report)
        if hasattr(model, "module_"):
            report.violate("refused fit left attributes", sorted(vars(model)))
        _check_earlier_fit(case, report)
        return
    if case.must_fail:
        report.violate("accepted", case.kind)
        return
    check_state(model, report)
    answers = check_methods(model, case.X, report)
    is_float = isinstance(case.X, np.ndarray) and case.X.dtype in (np.float32, np.float64)
    if is_float and case.support == "real":
        check_methods(model, distant_rows(case.X), report)
    _check_copies(model, case.X, answers, report)
    # With the settings of another user, which must not change a result.
    with many_settings(case.settings, omitted=_OMITTED):
        again = clone(case.estimator).fit(case.X, **case.arguments)
        found = check_methods(again.set_output(transform="default"), case.X, report)
    differing = [name for name in answers if not same(found[name], answers[name])]
    if differing:
        report.violate("not reproducible", f"{differing}, settings {case.settings}")
    _check_warm_start(model, case, report)


def attempt(model, X, **arguments):
    """Fit a model; return whether it is fitted, and else the exception and its time."""
    began = []
    original = trainer.train_side_by_side

    def train_side_by_side(*args, **kwargs):
        began.append(True)
        return original(*args, **kwargs)

    with mock.patch.object(trainer, "train_side_by_side", train_side_by_side):
        try:
            model.fit(X, **arguments)
        # The caller judges an error of any kind, so none is passed over.
        except Exception as error:
            return False, (error, bool(began))
    return True, None


def _check_refusal(refusal, report):
    """Check an exception of `fit`, and return its message."""
    error, began = refusal
    text = f"{type(error).__name__}: {error}"
    described = "".join(traceback.format_exception(error))
    if not isinstance(error, _REFUSALS):
        report.violate("wrong exception", described)
    elif began:
        report.violate("late error", described)
    elif len(str(error)) < 20:
        report.violate("no message", described)
    return text


def _check_earlier_fit(case, report):
    """Check that a model that was fitted before survives a fit that fails."""
    model = clone(case.estimator).set_params(scale=1.0)
    model.set_params(early_stopping=False, variance_mode="auto")
    easy = mapped(_EASY, case.support, np.random.default_rng(0))
    if not attempt(model, easy)[0]:
        return
    before = check_methods(model, easy, report)
    model.set_params(**case.estimator.get_params(deep=False))
    fitted, _ = attempt(model, case.X, **case.arguments)
    if fitted:
        report.violate("not reproducible", "a fit is refused once, and accepted later")
    elif not same(model.score_samples(easy), before["score_samples"]):
        report.violate("earlier fit lost", "scores differ")


def _check_warm_start(model, case, report):
    """Continue a fit on data times a factor, which works or leaves the fit as it is."""
    try:
        X = np.asarray(case.X, dtype=np.float64) * case.factor
    except (TypeError, ValueError, OverflowError):
        return
    if hasattr(case.X, "columns") or not np.isfinite(X).all():
        return
    before = model.score_samples(case.X)
    model.set_params(warm_start=True)
    fitted, refusal = attempt(model, X)
    if fitted:
        check_state(model, report, is_continued=True)
        check_methods(model, X, report)
        return
    report.warnings.append(f"warm start refused: {_check_refusal(refusal, report)}")
    if not same(model.score_samples(case.X), before):
        report.violate("earlier fit lost", "by a warm start that was refused")


def check_state(model, report, is_continued=False):
    """Check that all fitted numbers are finite, and the scale positive."""
    numbers = {f"module_.{k}": v.numpy() for k, v in model.module_.state_dict().items()}
    numbers |= {
        f"history_[{k!r}]": values
        for k, values in model.history_.items()
        # NaN by their definition: without a gradient, and in a part without validation.
        if not (k.startswith("grad_cosine") or (is_continued and k == "validation_score"))
    }
    statistics = dict(vars(model._standardization))
    links = statistics.pop("links")
    numbers |= statistics | ({} if links is None else vars(links))
    numbers["loss_curve_"] = model.loss_curve_
    if model.scale_ is not None:
        scale = np.asarray(model.scale_)
        if isinstance(model.likelihood_, Mixed):
            # NaN by its definition, in a column without scale.
            scale = scale[~np.isnan(scale)]
        numbers["scale_"] = scale
        if not np.all(scale > 0):
            report.violate("not finite", f"scale_ = {model.scale_}")
    for name, values in numbers.items():
        _check_finite(name, np.asarray(values), report)


def check_methods(model, X, report):
    """Call all methods of a fitted model, check the answers, and return them."""
    answers = {
        "transform": model.transform(X),
        "reconstruct": model.reconstruct(X),
        "score_samples": model.score_samples(X),
        "score": np.array(model.score(X)),
    }
    answers["inverse_transform"] = model.inverse_transform(answers["transform"])
    if isinstance(model, VariationalAutoencoder):
        answers["posterior mean"], answers["posterior std"] = model.posterior(X)
        answers["elbo"] = model.elbo(X)
        answers["log_marginal"] = model.log_marginal(X, n_samples=8)
        answers["sample"] = model.sample(5, random_state=0)
        answers["sample without noise"] = model.sample(5, random_state=0, noise=False)
    for name, values in answers.items():
        _check_finite(name, numbers_of(values), report)
    dtype = getattr(X, "dtype", None)
    expected = np.float32 if dtype == np.float32 else np.float64
    n = len(answers["transform"])
    others = {"sample", "sample without noise", "score"}
    if case_has_columns(model):
        # A table with columns has a type for each of them.
        others = set(answers)
    for name in answers.keys() - others:
        if answers[name].dtype != expected:
            report.violate("dtype", f"{name}: {answers[name].dtype}")
        if len(answers[name]) != n:
            report.violate("shape", f"{name}: {answers[name].shape}")
    scores = answers["score_samples"].astype(np.float64)
    with np.errstate(over="ignore"):
        mean = max(np.sum(scores / len(scores)), np.finfo(np.float64).min)
    if not np.isclose(answers["score"], mean, rtol=1e-6):
        report.violate("score", f"{answers['score']} is not the mean {mean}")
    return answers


def distant_rows(X):
    """Make rows of all sizes up to the largest number of the dtype."""
    sizes = np.array([1, 1e10, 1e19, 1e38, 1e80, 1e155, 1e307])
    signs = np.where(np.arange(X.shape[1]) % 2, -1.0, 1.0)
    return np.outer(sizes[: 4 if X.dtype == np.float32 else None], signs).astype(X.dtype)


def numbers_of(values):
    """Return the numbers of an array or a frame, without strings and the like."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        return values
    if hasattr(values, "to_dict") and not isinstance(values, pd.DataFrame):
        values = values.to_dict(as_series=False)  # of polars
    return pd.DataFrame(values).convert_dtypes().select_dtypes("number").astype(float)


def case_has_columns(model):
    """Whether a model knows the types of its columns."""
    return model._table.columns is not None


def _check_finite(name, values, report):
    """Check that numbers are finite."""
    bad = ~np.isfinite(np.asarray(values))
    if bad.any():
        report.violate("not finite", f"{name}: {bad.sum()} of {bad.size}")


def _check_copies(model, X, answers, report):
    """Check pickles, copies, clones and what a notebook shows."""
    for name, twin in [
        ("pickle", pickle.loads(pickle.dumps(model))),
        ("copy", copy.deepcopy(model)),
    ]:
        if not same(twin.score_samples(X), answers["score_samples"]):
            report.violate(name, "scores differ")
    if hasattr(clone(model), "module_"):
        report.violate("clone", "is fitted")
    if not (repr(model) and model._repr_html_()):
        report.violate("display", "is empty")
    if len(model.get_feature_names_out()) != answers["transform"].shape[1]:
        report.violate("names of features", model.get_feature_names_out())


def same(one, other):
    """Whether two arrays are equal to the bit, or two frames."""
    if not (isinstance(one, np.ndarray) and one.dtype != object):
        if isinstance(one, np.ndarray):
            return str(one.tolist()) == str(other.tolist())
        return type(one) is type(other) and one.equals(other)
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def general(message):
    """Replace the numbers and the lists of a message, so that equal ones can be counted."""
    message = message.partition("\n")[0]
    message = re.sub(r"\[.*?\]|\(columns .*?\)", "[...]", message)
    message = re.sub(r"columns \d+(, \d+)*( and \d+ more)?", "columns #", message)
    message = re.sub(r"(?<![A-Za-z_0-9])-?\d+([.,]\d+)*(e[+-]?\d+)?", "#", message)
    return message if len(message) < 160 else message[:156].rpartition(" ")[0] + " ..."
