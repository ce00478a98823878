"""Modules that a new process imports."""

import importlib
import pickle
import subprocess
import sys

import pytest

import skae
from skae._utils.homes import PACKAGE_OF


def modules_of_new_process(code):
    """Run code in a new process; return the words that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_skae_does_not_import_torch():
    modules = modules_of_new_process(
        "import sys, skae\n"
        "assert 'VariationalAutoencoder' in dir(skae)\n"
        "print(*sys.modules)"
    )
    assert "skae" in modules
    assert not {m for m in modules if m.split(".")[0] in {"torch", "sklearn"}}


@pytest.mark.parametrize("package", skae._PACKAGES)
def test_dir_lists_the_public_names(package):
    module = importlib.import_module(f"skae.{package}")
    assert dir(module) == sorted(module.__all__)


def test_public_exceptions_bear_their_public_name():
    """Tracebacks show a name that can be imported, and pickles load by it."""
    found = []
    for package in skae._PACKAGES:
        module = importlib.import_module(f"skae.{package}")
        for name in getattr(module, "__all__", []):
            kind = getattr(module, name)
            if isinstance(kind, type) and issubclass(kind, Exception):
                assert f"{kind.__module__}.{kind.__qualname__}" == f"skae.{package}.{name}"
                again = pickle.loads(pickle.dumps(kind("why")))
                assert (type(again), again.args) == (kind, ("why",))
                found.append(name)
    assert found == ["InvalidFileError"]


def test_dir_of_skae_lists_each_public_name_once():
    assert dir(skae) == sorted(["__version__", *skae.__all__, *skae._PACKAGES])


def test_names_of_packages_have_a_hint():
    """Each public name elsewhere is found, without an import of its package."""
    for package in skae._PACKAGES:
        for name in importlib.import_module(f"skae.{package}").__all__:
            if not hasattr(skae, name) and name != "save":
                with pytest.raises(AttributeError) as caught:
                    getattr(skae, name)
                code = f"from skae.{package} import {name}"
                assert str(caught.value).endswith(f"no attribute {name!r}: {code}")
                exec(code, {})
    for name, package in PACKAGE_OF.items():
        assert name in importlib.import_module(f"skae.{package}").__all__
    modules = modules_of_new_process(
        "import sys, skae\nassert not hasattr(skae, 'Conv')\nprint(*sys.modules)"
    )
    assert "torch" not in modules


def test_no_module_warns():
    """All public packages are imported with warnings as errors."""
    command = "import skae; print(*map(skae.__getattr__, [*skae.__all__, *skae._PACKAGES]))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", command], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "skae.inspection" in done.stdout


def test_fit_does_not_import_compilers():
    """The first step of torch.optim imports compilers, which takes seconds."""
    modules = modules_of_new_process(
        "import sys, numpy as np, torch\n"
        "from skae import VariationalAutoencoder\n"
        "X = np.random.RandomState(0).randn(60, 4)\n"
        "before = set(sys.modules)\n"
        "model = VariationalAutoencoder(max_iter=3, gradient_balance=True)\n"
        "model.fit(X).score(X)\n"
        "print(*sys.modules, *(f'new:{m}' for m in set(sys.modules) - before))"
    )
    assert "torch" in modules
    new = {m.removeprefix("new:") for m in modules if m.startswith("new:")}
    assert "skae._fitting.trainer" in modules
    assert not {"torch._dynamo", "torch._inductor", "sympy"} & modules
    assert not {m for m in new if m.startswith(("torch._", "torch.fx", "torch.optim"))}
