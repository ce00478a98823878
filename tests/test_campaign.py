"""A short campaign: hostile tables, random parameters, and the contract of each fit."""

import json
from argparse import Namespace

import numpy as np
import pytest

from benchmarks.campaign import faults
from benchmarks.campaign.__main__ import case_of, page, write_counts
from benchmarks.campaign.checks import Report, check, check_state, general
from benchmarks.campaign.faults import FAULTS, Fault
from benchmarks.campaign.tables import KINDS
from skae import GaussianAutoencoder
from skae.estimators.base import BaseAutoencoder


@pytest.mark.parametrize("index", range(len(KINDS)), ids=[kind.name for kind in KINDS])
def test_contract(index):
    """One fit of each kind of table. The campaign has thousands, with other seeds."""
    case = case_of(7, index)
    report = check(case)
    assert not report.violations
    if case.must_fail:
        assert report.outcome == "refused"


@pytest.mark.parametrize("index", range(2 * len(FAULTS)))
def test_faults(index):
    """Two fits with each kind of fault, which end in a model or in an allowed error."""
    found, report = faults.check(11, index)
    assert found.name == list(FAULTS)[index % len(FAULTS)]
    assert not report.violations


def test_faults_that_are_not_handled_are_found(monkeypatch):
    """The campaign reports a changed exception, and an earlier fit that is lost."""
    fit, index = BaseAutoencoder._fit, list(FAULTS).index("network raises")

    def changed(self, *args):
        try:
            return fit(self, *args)
        except Exception as error:
            self.module_ = None
            raise KeyError(1) from error

    monkeypatch.setattr(BaseAutoencoder, "_fit", changed)
    kinds = [kind for kind, _ in faults.check(11, index)[1].violations]
    assert kinds[:2] == ["wrong exception", "earlier fit lost"]


def test_counts(tmp_path):
    """The file has the outcomes of each kind of table, likelihood and fault."""
    refused = Report(outcome="refused", violations=[("error", "x")])
    done = [(case_of(0, 0), Report()), (case_of(0, 0), refused)]
    arguments = Namespace(seed=3)
    write_counts(arguments, done, [(Fault("no memory"), refused)], tmp_path / "counts.json")
    found = json.loads((tmp_path / "counts.json").read_text())
    both = {"fitted": 1, "refused": 1, "violations": 1}
    assert found["tables"] == {KINDS[0].name: both}
    assert list(found["likelihoods"].values()) == [both]
    assert found["faults"] == {"no memory": {"refused": 1, "violations": 1}}
    assert (found["seed"], found["fits"], found["violations"]) == (3, 2, 2)


def test_cases_depend_on_seed_and_index_only():
    first, again, other = case_of(3, 65), case_of(3, 65), case_of(4, 65)
    assert repr(first.estimator) == repr(again.estimator) != repr(other.estimator)
    np.testing.assert_array_equal(first.X, again.X)


def test_violations_are_found(X, monkeypatch):
    """The campaign reports a model that is not finite, and an error of a method."""
    model = GaussianAutoencoder(max_iter=1, random_state=0).fit(X)
    model.module_.scale.value.fill_(np.nan)
    report = Report()
    check_state(model, report)
    assert report.violations == [("not finite", "module_.scale.value: 1 of 1")]

    def fail(self, X):
        raise ZeroDivisionError

    monkeypatch.setattr(GaussianAutoencoder, "transform", fail)
    case = case_of(7, 0)
    case.estimator, case.arguments = GaussianAutoencoder(max_iter=1, random_state=0), {}
    assert [kind for kind, _ in check(case).violations] == ["error"]


def test_page(tmp_path):
    """The page counts outcomes and messages."""
    fitted = Report(warnings=["ConvergenceWarning: at 0.5 (columns 1, 2)"])
    refused = Report(outcome="refused", refusal="ValueError: X has 3e+08 rows")
    done = [(case_of(0, 0), fitted), (case_of(0, 0), refused), (case_of(0, 0), refused)]
    page(0, done, tmp_path / "page.rst")
    text = (tmp_path / "page.rst").read_text()
    assert "3 fits (seed 0), 1 were fitted and 2 were\nrefused" in text
    cells = [KINDS[0].name, 1, 1, 2, 0]
    assert "   * - " + "\n     - ".join(map(str, cells)) in text
    assert "``ConvergenceWarning: at # [...]``\n     - 1" in text
    assert "``ValueError: X has # rows``\n     - 2" in text
    assert general("ValueError: x1=2.5e-3, not 7.") == "ValueError: x1=#, not #."
