"""Messages have the names of the classes that a user calls."""

import copy
import inspect
import pickle
import pydoc
import re

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.metaestimators import available_if

from skae import GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder
from skae._utils.synonyms import NO_PARAMETERS, PARAMETERS
from skae.impute import AutoencoderImputer
from skae.likelihoods import StudentTLikelihood
from skae.model_selection import BatchedGridSearchCV, BatchedRandomizedSearchCV
from skae.networks import MLP
from skae.outlier import LikelihoodOutlierDetector
from skae.recipes import make_outlier_estimator
from tests.helpers import every_estimator

DATA = np.random.default_rng(0).normal(size=(20, 3))
VARIATIONAL_ONLY = ["sample", "posterior", "elbo", "log_marginal"]


def public_methods(cls):
    """Return the names of the public methods, and the constructor."""
    return [
        name
        for name in dir(cls)
        if (name == "__init__" or not name.startswith("_"))
        and inspect.isfunction(inspect.getattr_static(cls, name))
    ]


@every_estimator
def test_no_base_class_in_the_message_of_a_wrong_argument(estimator):
    """A call with an unknown argument names the class, whatever class defines it."""
    model = estimator(max_iter=1).fit(DATA)
    methods = public_methods(estimator)
    assert {"__init__", "fit", "fit_transform", "transform", "score"} <= set(methods)
    for name in methods:
        assert getattr(estimator, name).__qualname__ == f"{estimator.__name__}.{name}"
        if name in ("__init__", "set_params", "set_callbacks", "fit_transform"):
            continue
        with pytest.raises(TypeError) as caught:
            getattr(model, name)(*[DATA] * 9)
        assert str(caught.value).startswith(f"{estimator.__name__}.{name}() ")
    with pytest.raises(TypeError, match=rf"^{estimator.__name__}\.fit_transform\(\) "):
        model.fit_transform()
    with pytest.raises(TypeError, match=rf"^{estimator.__name__}\.transform\(\) "):
        model.transform()


@pytest.mark.parametrize("search", [BatchedGridSearchCV, BatchedRandomizedSearchCV])
def test_searches(search):
    """A search does not name its private base class."""
    with pytest.raises(TypeError, match=rf"^{search.__name__}\.fit\(\) missing"):
        search(GaussianAutoencoder(), {}).fit()
    with pytest.raises(TypeError, match=rf"^{search.__name__}\.__init__\(\) .*'paramgrid'"):
        search(GaussianAutoencoder(), {}, paramgrid={})


def test_a_misspelt_parameter_has_a_hint():
    """The constructor names the parameter that is meant, for subclasses too."""

    class Own(VariationalAutoencoder):
        pass

    for cls in (VariationalAutoencoder, Own):
        with pytest.raises(TypeError) as caught:
            cls(n_componets=3)
        assert str(caught.value) == (
            f"{cls.__name__}.__init__() got an unexpected keyword argument "
            "'n_componets'. Did you mean 'n_components'?"
        )
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'zzz'\.$"):
        VariationalAutoencoder(zzz=1)
    with pytest.raises(TypeError, match="takes from 1 to 2 positional"):
        VariationalAutoencoder(2, 3)


SYNONYMS = {
    "latent_dim": "'n_components'",
    "latent_size": "'n_components'",
    "n_latent": "'n_components'",
    "encoding_dim": "'n_components'",
    "epochs": "'max_iter'",
    "n_epochs": "'max_iter'",
    "num_epochs": "'max_iter'",
    "lr": "'learning_rate_init'",
    "seed": "'random_state'",
    "hidden_dims": "'hidden_layer_sizes'",
    "dropout": r"MLP\(dropout=",
    "optimizer": "Adam is used",
    "epoch_num": "'max_iter'",
    "hidden_neuron_list": "'hidden_layer_sizes'",
    "input_dim": "fit takes the number of features",
    "encoder": "pass as network= an object whose methods",
    "amp": "Set precision=",
    "scheduler_cls": "learning_rate says how it changes",
}


@pytest.mark.parametrize("name", SYNONYMS)
@every_estimator
def test_parameters_of_other_libraries(estimator, name):
    """The constructor and `set_params` have the name of this library."""
    pattern = f"{name}'.*{SYNONYMS[name]}"
    with pytest.raises(TypeError, match=pattern):
        estimator(**{name: 3})
    with pytest.raises(ValueError, match=f"Invalid parameter .*{pattern}"):
        estimator().set_params(**{name: 3})


def test_hints_are_names_that_the_class_has():
    """Each synonym leads to a parameter, and no class has a synonym as its own."""
    known = {*VariationalAutoencoder().get_params(), *AutoencoderImputer().get_params()}
    assert set(PARAMETERS.values()) <= known
    assert {needed for needed, _ in NO_PARAMETERS.values()} <= known
    assert not known & {*PARAMETERS, *NO_PARAMETERS}
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'epochs'\.$"):
        BatchedGridSearchCV(GaussianAutoencoder(), {}, epochs=3)


@pytest.mark.parametrize("name", ["loss", "reconstruction_loss"])
def test_the_loss_is_a_likelihood(name):
    """The variational class has the parameter, and the others say so."""
    with pytest.raises(TypeError, match=f"'{name}'. Its name here is 'likelihood'"):
        VariationalAutoencoder(**{name: "mse"})
    with pytest.raises(TypeError, match=f"'{name}'. VariationalAutoencoder has it"):
        GaussianAutoencoder(**{name: "mse"})


def test_keywords_of_methods():
    """Methods have the hints too, but not the advice on parameters of the class."""
    model = VariationalAutoencoder(max_iter=1).fit(DATA)
    with pytest.raises(
        TypeError, match=r"\.impute\(\) got .*'strategy'. Its .* 'statistic'"
    ):
        model.impute(DATA, strategy="median")
    with pytest.raises(
        TypeError, match=r"\.sample\(\) got .* Its name here is 'random_state"
    ):
        model.sample(seed=0)
    with pytest.raises(TypeError, match=r"\.impute\(\) got .* argument 'beta'\.$"):
        GaussianAutoencoder(max_iter=1).fit(DATA).impute(DATA, beta=1)
    with pytest.raises(TypeError, match=r"'strategy'\. Its name here is 'statistic'"):
        AutoencoderImputer(strategy="median")


KEYWORDS_OF_FIT = {
    "epochs": r"It is a parameter of the class: \w+\(max_iter=\.\.\.\)\.$",
    "batch_size": r"It is a parameter of the class: \w+\(batch_size=\.\.\.\)\.$",
    "validation_split": r"parameter of the class: \w+\(validation_fraction=\.\.\.\)\.$",
    "validation_data": r"takes validation rows as X_val=\.\.\., and early_stopping",
    "callbacks": "The method set_callbacks of an autoencoder takes them",
    "optimizer": "Adam is used",
    "sample_weights": r"Did you mean 'sample_weight'\?$",
    "max_iters": r"Did you mean 'max_iter'\?$",
    "zzz": r"(?<='zzz')\.$",
}


@pytest.mark.parametrize("name", KEYWORDS_OF_FIT)
@every_estimator
def test_keywords_of_fit(estimator, name):
    """What other libraries pass to `fit` is somewhere else."""
    model = estimator(max_iter=1)
    for method in (model.fit, model.partial_fit, model.fit_transform):
        with pytest.raises(
            TypeError, match=rf"fit\(\) .*'{name}'.*{KEYWORDS_OF_FIT[name]}"
        ):
            method(DATA, **{name: 3})


@pytest.mark.parametrize("cls", [LikelihoodOutlierDetector, AutoencoderImputer])
def test_keywords_of_fit_of_an_estimator_inside(cls):
    """They are those of the estimator, or of the class."""
    recipe = r"Pass estimator=skae\.recipes\.make_\w+_estimator\(max_iter=\.\.\.\)\.$"
    with pytest.raises(TypeError, match=rf"{cls.__name__}\.fit\(\) .*{recipe}"):
        cls().fit(DATA, epochs=3)
    with pytest.raises(TypeError, match=rf"of the class: {cls.__name__}\(random_state="):
        cls().fit(DATA, seed=3)
    with pytest.raises(TypeError, match="Its name here is 'random_state'"):
        cls(seed=3)
    with pytest.raises(TypeError, match="The method set_callbacks of an autoencoder"):
        cls().fit(DATA, callbacks=[])


@pytest.mark.parametrize(
    "cls", [VariationalAutoencoder, LikelihoodOutlierDetector, AutoencoderImputer]
)
def test_classes_do_not_load(cls):
    """The function is that of the package."""
    for owner in (cls, cls()):
        with pytest.raises(AttributeError, match=r"'load': skae\.load\(path\) returns"):
            owner.load("model.skops")
    assert "load" not in dir(cls())


@pytest.mark.parametrize("estimator", [GaussianAutoencoder, LaplaceAutoencoder])
def test_parameters_of_a_density(estimator):
    """A deterministic autoencoder says which class has them: all that it has not."""
    own, variational = estimator().get_params(), VariationalAutoencoder().get_params()
    names = variational.keys() - own.keys()
    assert {"likelihood", "beta"} <= names
    for name in names:
        with pytest.raises(TypeError, match=f"'{name}'. VariationalAutoencoder has it"):
            estimator(**{name: 1})
        with pytest.raises(ValueError, match="VariationalAutoencoder has it"):
            estimator().set_params(**{name: 1})


@pytest.mark.parametrize(
    ("cls", "recipe"),
    [
        (LikelihoodOutlierDetector, "make_outlier_estimator"),
        (AutoencoderImputer, "make_imputation_estimator"),
    ],
)
def test_parameters_of_the_estimator_inside(cls, recipe):
    """The message says how to pass them, also for a synonym, and in `set_params`."""
    for given, name in [("n_components", "n_components"), ("latent_dim", "n_components")]:
        advice = rf"Pass estimator=skae\.recipes\.{recipe}\({name}=\.\.\.\)\.$"
        with pytest.raises(TypeError, match=advice):
            cls(**{given: 3})
        with pytest.raises(ValueError, match=advice):
            cls().set_params(**{given: 3})
        with pytest.raises(ValueError, match=f"estimator is None.*{advice}"):
            cls().set_params(**{f"estimator__{given}": 3})
    inside = cls(make_outlier_estimator()).set_params(estimator__n_components=5)
    assert inside.estimator.n_components == 5
    with pytest.raises(TypeError, match=r"Did you mean 'random_state'\?$"):
        cls(randomstate=3)
    assert cls().set_params(random_state=3).random_state == 3


OF_PARTS = [
    ({}, "network__dropout", "'mlp'", "network=skae.networks.MLP"),
    ({}, "network__channels", "'mlp'", "network=skae.networks.Conv"),
    ({}, "likelihood__df", "'gaussian'", "likelihood=skae.likelihoods.StudentTLikelihood"),
    (
        {"likelihood": StudentTLikelihood(3)},
        *("likelihood__df", "of the class StudentTLikelihood"),
        "likelihood=skae.likelihoods.StudentTLikelihood",
    ),
    (
        {"likelihood": "mixture"},
        *("likelihood__n_components", "'mixture'"),
        "likelihood=skae.likelihoods.MixtureLikelihood",
    ),
    (
        {"kl_schedule": "cyclical"},
        *("kl_schedule__n_cycles", "'cyclical'"),
        "kl_schedule=skae.objectives.CyclicalSchedule",
    ),
    (
        {"prior": "mixture"},
        *("prior__n_components", "'mixture'", "prior=sklearn.mixture.GaussianMixture"),
    ),
    ({}, "prior__n_components", "None", "prior=sklearn.mixture.GaussianMixture"),
]


@pytest.mark.parametrize(("parameters", "name", "found", "needed"), OF_PARTS)
def test_parameters_of_a_name(parameters, name, found, needed):
    """The error says which object has them, directly, in a search and in a pipeline."""
    owner, part = name.split("__")
    model = VariationalAutoencoder(**parameters)
    pattern = re.escape(f"Invalid parameter {name!r}: {owner} is ") + ".*"
    pattern += re.escape(found) + ".*" + re.escape(f"Pass {needed}({part}=...).")
    with pytest.raises(ValueError, match=pattern):
        model.set_params(**{name: 3})
    with pytest.raises(ValueError, match=pattern):
        GridSearchCV(model, {name: [3]}, cv=2).fit(DATA)
    with pytest.raises(ValueError, match=pattern):
        make_pipeline(model).set_params(**{f"variationalautoencoder__{name}": 3})


def test_objects_and_their_parameters_at_once():
    """An object that comes with the call has parameters."""
    model = VariationalAutoencoder().set_params(network=MLP(), network__dropout=0.5)
    assert model.network.dropout == 0.5
    detector = LikelihoodOutlierDetector()
    detector.set_params(estimator=VariationalAutoencoder(), estimator__beta=2.0)
    assert detector.estimator.beta == 2.0
    with pytest.raises(ValueError, match=r"network is the name 'mlp'.*mean 'dropout'"):
        model.set_params(network="mlp", network__dropuot=0.5)
    with pytest.raises(ValueError, match="of the class float, which has no set_params"):
        model.set_params(alpha__strength=0.5)
    with pytest.raises(ValueError, match=r"derive it from sklearn\.base\.BaseEstimator"):
        model.set_params(network=object(), network__width=5)
    with pytest.raises(ValueError, match=r"the class function, which has no set_params\.$"):
        model.set_params(kl_schedule=lambda progress: 1.0, kl_schedule__rise=0.5)
    with pytest.raises(ValueError, match=r"network is the class MLP\. Pass an instance\.$"):
        model.set_params(network=MLP, network__dropout=0.5)
    with pytest.raises(ValueError, match="VariationalAutoencoder has it"):
        GaussianAutoencoder().set_params(likelihood__df=3)
    with pytest.raises(ValueError, match=r"make_outlier_estimator\(network=\.\.\.\)"):
        LikelihoodOutlierDetector().set_params(estimator__network__dropout=0.5)


def test_methods_of_a_user_stay_theirs():
    """A method of a subclass is found before that of the library, and calls it."""

    class Mixin:
        def transform(self, X):
            return super().transform(X) + 1

    class Own(Mixin, GaussianAutoencoder):
        pass

    model = Own(max_iter=1, random_state=0).fit(DATA)
    plain = GaussianAutoencoder(max_iter=1, random_state=0).fit(DATA)
    np.testing.assert_array_equal(model.transform(DATA), plain.transform(DATA) + 1)
    assert "Mixin.transform" in Own.transform.__qualname__


@every_estimator
def test_signatures_and_docstrings_are_kept(estimator):
    """Copies of methods have the documentation of the originals."""
    for name in public_methods(estimator):
        method = getattr(estimator, name)
        base = next((c for c in estimator.__mro__[1:] if name in vars(c)), None)
        if base is None or name == "__init__":
            continue
        original = getattr(base, name)
        assert inspect.getdoc(method) == inspect.getdoc(original)
        assert inspect.signature(method) == inspect.signature(original)


@pytest.mark.parametrize(
    "cls",
    [
        *(GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder),
        *(BatchedGridSearchCV, BatchedRandomizedSearchCV),
    ],
)
def test_methods_of_classes_can_be_pickled(cls):
    """A pickle loads to the same function, as a function of any class does."""
    methods = public_methods(cls)
    assert {"__init__", "fit"} <= set(methods)
    for name in methods:
        method = getattr(cls, name)
        assert pickle.loads(pickle.dumps(method)) is method


# Methods that do not exist.


@pytest.mark.parametrize("name", VARIATIONAL_ONLY)
def test_a_deterministic_model_says_what_can_be_sampled(name):
    """The error names VariationalAutoencoder, before and after a fit."""
    for model in (GaussianAutoencoder(), GaussianAutoencoder(max_iter=1).fit(DATA)):
        assert not hasattr(model, name)
        assert name not in dir(model)
        with pytest.raises(AttributeError) as caught:
            getattr(model, name)
        assert str(caught.value).startswith(
            f"'GaussianAutoencoder' object has no attribute '{name}': a deterministic "
            "autoencoder has no density"
        )
        assert "VariationalAutoencoder" in str(caught.value)
        assert caught.value.name == name


@every_estimator
def test_predict_leads_to_scorers(estimator):
    """The error of `predict` names the scoring that works."""
    model = estimator(max_iter=1).fit(DATA)
    assert not hasattr(model, "predict")
    with pytest.raises(AttributeError, match=r"reconstruction_error_scorer; the default"):
        model.predict(DATA)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("encode", r"transform\.$"),
        ("decode", r"inverse_transform\.$"),
        ("generate", r"VariationalAutoencoder\.sample "),
        ("history", "history_, "),
        ("components_", r"no axes .*n_components_ .*KLSpectrumDisplay"),
        ("explained_variance_ratio_", r"no axes .*n_components_ .*KLSpectrumDisplay"),
        ("reconstruction_error", r"skae\.model_selection\.reconstruction_error_scorer"),
        ("explained_variance_", "no axes "),
        ("singular_values_", "no axes "),
        ("mean_", r"X\.mean\(axis=0\)"),
        ("noise_variance_", "scale_, in the units of X"),
        ("get_covariance", r"numpy\.cov\(sample"),
        ("embed", r"transform\.$"),
        ("get_nll", "-score_samples"),
        ("interpolate", r"numpy\.linspace"),
    ],
)
@every_estimator
def test_attributes_of_other_libraries(estimator, name, advice):
    """They are missing, with advice, before and after a fit."""
    for model in (estimator(), estimator(max_iter=1).fit(DATA)):
        assert not hasattr(model, name)
        assert name not in dir(model)
        with pytest.raises(AttributeError, match=f"no attribute '{name}': .*{advice}"):
            getattr(model, name)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("labels_", "fit_predict"),
        ("decision_scores_", "-score_samples"),
        ("threshold_", "offset_"),
        ("predict_proba", "score_samples returns it"),
    ],
)
def test_attributes_of_other_detectors(name, advice):
    """A detector has advice for names of PyOD, and does not have the names."""
    detector = LikelihoodOutlierDetector()
    assert not hasattr(detector, name)
    assert name not in dir(detector)
    with pytest.raises(AttributeError, match=f"no attribute '{name}': .*{advice}"):
        getattr(detector, name)


@every_estimator
def test_help_says_what_to_use(estimator):
    """`help` lists the names that are missing, each with its advice."""
    text = pydoc.plain(pydoc.render_doc(estimator))
    for name in ("encode", "predict", "components_", "mean_"):
        assert f"\n |  {name}\n |      Not available: " in text


@every_estimator
def test_other_missing_attributes(estimator):
    """Others have Python's message; copies and pickles do not look for them."""
    model = estimator(max_iter=1).fit(DATA)
    message = rf"^'{estimator.__name__}' object has no attribute 'nothing'$"
    with pytest.raises(AttributeError, match=message):
        _ = model.nothing
    for other in (copy.copy(model), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.transform(DATA), model.transform(DATA))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(DATA), model.transform(DATA))
    empty = estimator.__new__(estimator)
    assert not hasattr(empty, "module_")


@pytest.mark.parametrize("name", ["predict", *VARIATIONAL_ONLY])
def test_missing_methods_are_missing_in_the_class(name):
    """`hasattr` of the class is False, and the error has the advice."""
    assert not hasattr(GaussianAutoencoder, name)
    with pytest.raises(AttributeError, match=rf"^type object .* '{name}': a"):
        getattr(GaussianAutoencoder, name)
    assert name not in dir(GaussianAutoencoder())


def test_errors_inside_a_property_are_not_hidden():
    """The message is about the attribute that is missing, not about the property."""

    class Own(GaussianAutoencoder):
        @property
        def loadings_(self):
            return self.module_.decoder_weightt

        @available_if(lambda self: self.nothing)
        def rotate(self):
            pass

    model = Own(max_iter=1).fit(DATA)
    with pytest.raises(AttributeError, match=r"'AutoencoderModule' .* 'decoder_weightt'"):
        _ = model.loadings_
    with pytest.raises(AttributeError) as caught:
        _ = model.rotate
    assert "object has no attribute 'nothing'" in str(caught.value.__cause__)


def test_other_classes_may_define_missing_methods():
    """A subclass, a later base class, a base's `__getattr__` and an instance."""

    class Predicts:
        def predict(self, X):
            return len(X)

    class Dynamic:
        def __getattr__(self, name):
            if name == "predict":
                return len
            raise AttributeError(name)

    class Own(GaussianAutoencoder):
        def predict(self, X):
            return len(X)

    class Later(GaussianAutoencoder, Predicts):
        pass

    class Fallback(GaussianAutoencoder, Dynamic):
        pass

    instance = GaussianAutoencoder()
    instance.predict = len
    for model in (Own(), Later(), Fallback(), instance):
        assert model.predict(DATA) == 20
        assert "predict" in dir(model)
        assert not hasattr(model, "sample")
        assert "sample" not in dir(model)
    assert Later.predict is Predicts.predict
