"""A short campaign: hostile tables, random parameters, and the contract of each fit."""

import numpy as np
import pytest

from benchmarks.campaign.__main__ import case_of, page
from benchmarks.campaign.checks import Report, check, check_state, general
from benchmarks.campaign.tables import KINDS
from skae import GaussianAutoencoder


@pytest.mark.parametrize("index", range(len(KINDS)), ids=[kind.name for kind in KINDS])
def test_contract(index):
    """One fit of each kind of table. The campaign has thousands, with other seeds."""
    case = case_of(7, index)
    report = check(case)
    assert not report.violations
    if case.must_fail:
        assert report.outcome == "refused"


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
