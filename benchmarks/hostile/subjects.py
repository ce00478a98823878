"""The files that are broken, and what happens when one is loaded."""

import functools
import random
import tempfile
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_iris

import skae
from skae._utils.files import pack, unpack
from skae.likelihoods import Mixed, StudentTLikelihood
from skae.networks import MLP, Conv
from skae.objectives import LinearSchedule
from skae.persistence import InvalidFileError, save

try:
    from hostile.changes import CHANGES
except ImportError:  # imported by a test, from the root of the repository
    from benchmarks.hostile.changes import CHANGES

KINDS = ("model", "checkpoint")


def _models():
    """Fit small models that together have most kinds of attributes."""
    X = load_iris().data[::3]
    holes = X.copy()
    holes[::4, 1] = np.nan
    vae = functools.partial(
        skae.VariationalAutoencoder, 2, max_iter=1, random_state=0, hidden_layer_sizes=(3,)
    )
    parts = [([0, 1], StudentTLikelihood("learned")), ([2, 3], "auto")]
    conv = Conv((1, 2, 2), channels=(2,), hidden_layer_sizes=())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about so short trainings
        return [
            skae.GaussianAutoencoder(2, max_iter=1, hidden_layer_sizes=(3,)).fit(X),
            vae(likelihood=Mixed(parts), variance_mode="auto").fit(X),
            vae(prior="mixture", network=MLP((3,), layer_norm=True)).fit(holes),
            vae(network=conv, kl_schedule=LinearSchedule()).set_params(
                random_state=np.random.RandomState(0)
            ),
        ]


@functools.cache
def originals(kind):
    """Return the bytes of files of a kind, and what each of them holds."""
    if kind == "checkpoint":
        arrays = {"weights": np.arange(20.0).reshape(4, 5), "steps": np.arange(3)}
        held = [(arrays, {"epoch": 3, "history": [0.5, 0.25]}), ({"a": np.zeros(0)}, {})]
        return [(pack(*each), content_of(each)) for each in held]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for i, model in enumerate(_models()):
            path = Path(folder) / str(i)
            save(model, path)
            found.append((path.read_bytes(), content_of(model)))
    return found


def content_of(value):
    """Return the content of an object as text, bytes and lists, which can be compared."""
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, np.ndarray):
        return value.shape, content_of(value.tolist())
    if isinstance(value, np.random.RandomState):
        return content_of(value.get_state(legacy=False))
    if isinstance(value, dict):
        return [(key, content_of(inner)) for key, inner in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [content_of(inner) for inner in value]
    if type(value).__module__ == "builtins":
        return repr(value)
    return type(value).__qualname__, content_of(value.__getstate__())


def broken(kind, change, i):
    """Return the bytes of a file, number i, that a change has broken, and its content."""
    rng = random.Random(f"{kind} {change} {i}")
    whole, content = rng.choice(originals(kind))
    return CHANGES[change](whole, rng), content


def read(kind, content, path):
    """Return what a file of some bytes holds, by a path."""
    path.write_bytes(content)
    return unpack(path.read_bytes()) if kind == "checkpoint" else skae.load(path)


def outcome(kind, change, i, path):
    """Load a broken file by a path, and return what happens in a word.

    Any other error than the one of the contract is raised.
    """
    hostile, content = broken(kind, change, i)
    try:
        loaded = read(kind, hostile, path)
    except InvalidFileError as error:
        cause = error.__cause__
        # skae refuses a module that is too large by an error of the same class.
        is_own = not isinstance(cause, MemoryError) or str(cause).startswith("A model")
        return "refused" if is_own else "memory"
    # What scikit-learn or skae say of another version that a file claims.
    except Warning:
        return "different"
    try:
        is_equal = content_of(loaded) == content
    # An object of another content may have no state.
    except Exception:
        is_equal = False
    return "equal" if is_equal else "different"
