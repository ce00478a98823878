"""The analytic step against autograd, over the registries, for one model and several."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from skae import (
    GaussianAutoencoder,
    LaplaceAutoencoder,
    VariationalAutoencoder,
    objectives,
)
from skae._data import Batches, Rows, Standardization
from skae._engine import AutogradStep, flatten, make_step
from skae._engine.analytic_step import AnalyticStep
from skae._engine.coder import Coder, fused_parameters
from skae._fitting import trainer
from skae._fitting.lockstep import run_in_lockstep
from skae._module import AutoencoderModule, Spec
from skae._optim import Adam, FlatParameters
from skae.estimators.base import BaseAutoencoder
from skae.likelihoods import (
    LIKELIHOODS,
    CategoricalLikelihood,
    GaussianLikelihood,
    GeneralizedLinear,
    Likelihood,
    LocationScale,
    Mixed,
    MixtureLikelihood,
    StudentTLikelihood,
)
from skae.networks import ACTIVATIONS, MLP, NETWORKS
from skae.networks.layers import is_chain_of_layers
from skae.objectives import ELBO, KL_SCHEDULES, NegativeLogLikelihood, Objective
from tests.families import (
    LOCATION_SCALE,
    generalized_linear_combinations,
    location_scale_combinations,
)

D, K, N = 5, 2, 7


def has_analytic_gradient(module, objective):
    """Whether the step of a model is analytic."""
    return (module.capabilities & objective.capabilities).has_analytic_gradient


OBJECTIVES = {
    "code": lambda: NegativeLogLikelihood(),
    "posterior": lambda: ELBO(0.7, "linear", 1),
    "three draws": lambda: ELBO(1.3, "constant", 3),
}


def make_likelihood(name):
    """Make a likelihood of D features: a registered one, or one of several parts."""
    if name == "mixed":
        families = [LIKELIHOODS["laplace"](), LIKELIHOODS["poisson"]()]
        return Mixed().bind(
            [], list(zip([slice(0, 2), slice(2, D)], families, strict=True))
        )
    if name == "mixed outputs":
        families = [
            MixtureLikelihood(2),
            StudentTLikelihood("learned"),
            LIKELIHOODS["negative_binomial"](),
            LIKELIHOODS["categorical"]().with_sizes((D - 3,)),
        ]
        parts = [slice(0, 1), slice(1, 2), slice(2, 3), slice(3, D)]
        return Mixed().bind([], list(zip(parts, families, strict=True)))
    if name == "learned student_t":
        return StudentTLikelihood("learned")
    likelihood = LIKELIHOODS[name]()
    if name == "categorical":
        return likelihood.with_sizes((2, D - 2))
    return likelihood


def link_buffers(likelihood, generator):
    """Draw the buffers of a generalised linear model; none for another likelihood."""
    linked = [p for p, f in likelihood.parts(D) if isinstance(f, GeneralizedLinear)]
    if not linked:
        return {}
    values = torch.rand(3, D, generator=generator, dtype=torch.float64) + 0.3
    return dict(zip(("loc_offset", "input_mean", "input_std"), values, strict=True))


def make_module(combination, n_heads, network=None, seed=0, has_missing=False):
    """Make a module with random parameters and gains."""
    name, mode, covariance_type = combination
    spec = Spec(
        D, K, n_heads, network or MLP((4, 6), activation="tanh"),
        make_likelihood(name), mode, covariance_type, has_missing,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    m = D if covariance_type == "diag" else 1
    ratio = torch.rand(D, generator=generator, dtype=torch.float64) + 0.5
    floor = torch.full((1, m), 0.01 * (seed + 1), dtype=torch.float64)
    links = link_buffers(spec.likelihood, torch.Generator().manual_seed(seed))
    module = AutoencoderModule(spec, ratio, floor, generator, links).double()
    module.scale.start(torch.full((1, m), 0.8, dtype=torch.float64))
    with torch.no_grad():
        # Nonzero output layers, and gains other than 1.
        for p in module.parameters():
            p.normal_(0, 0.6, generator=generator)
        module.loc_gain.uniform_(0.3, 1.4, generator=generator)
        module.code_gain.uniform_(0.3, 1.4, generator=generator)
        module.latent_gain.uniform_(0.3, 1.4, generator=generator)
        if has_missing:
            module.fill.loadings.normal_(generator=generator)
    return module


def by_parameter(parameters, flat):
    """Copy a flat buffer in the order of the parameters, whatever its layout."""
    return torch.cat([part.reshape(-1) for part in parameters.views(flat)])


def batch(R, n_draws, seed=0):
    """Draw rows, row weights and noise of R models."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.empty(R, N, D, dtype=torch.float64).normal_(generator=generator)
    row_weight = torch.rand(R, N, 1, generator=generator, dtype=torch.float64) / N
    row_weight[:, -1] = 0  # as for a row that fills up the batch
    noise = torch.empty(R, n_draws, N, K, dtype=torch.float64).normal_(generator=generator)
    return normal, row_weight, noise


def batch_with_holes(modules, n_draws, seed=0):
    """Draw the same, in which each row but one lacks entries, prepared for each model."""
    normal, row_weight, noise = batch(len(modules), n_draws, seed)
    generator = torch.Generator().manual_seed(seed)
    is_missing = torch.rand(normal.shape, generator=generator, dtype=torch.float64) < 0.4
    is_missing[:, 0] = False
    is_missing[:, 1, 1:] = True
    is_missing[..., 0] = False
    is_missing[:, 2:, 3] = True
    for part, family in modules[0].spec.likelihood.parts(D):
        if isinstance(family, CategoricalLikelihood):
            # A one-hot vector is missing as a whole.
            for group in is_missing[..., part].split(family._sizes, dim=-1):
                group.copy_(group[..., :1].expand_as(group).clone())
    normal = normal.masked_fill(is_missing, torch.nan)
    y = torch.stack([m.prepare(rows) for m, rows in zip(modules, normal, strict=True)])
    return y, row_weight, noise


def steps_of_both_kinds(combination, kind, R=1, network=None, has_missing=False):
    """Make an analytic step and an autograd step, each with models of its own."""
    objectives = [OBJECTIVES[kind]() for _ in range(R)]
    for i, objective in enumerate(objectives):
        if isinstance(objective, ELBO):
            objective.beta *= 1 + i
    steps = []
    for kind_of_step in (AnalyticStep, AutogradStep):
        modules = [
            make_module(combination, objectives[0].n_heads, network, i, has_missing)
            for i in range(R)
        ]
        is_analytic = kind_of_step is AnalyticStep
        parameters = flatten(
            modules, objectives[0], None if is_analytic else torch.bfloat16
        )
        arguments = (modules, objectives, parameters)
        if is_analytic:
            assert has_analytic_gradient(modules[0], objectives[0])
            arguments = (*arguments, N)
        steps.append((kind_of_step(*arguments), parameters, modules))
    return objectives, steps


# Likelihoods whose step goes by `Likelihood.derivatives`.
BY_DERIVATIVES = [
    *generalized_linear_combinations(),
    ("learned student_t", "learned", "diag"),
    ("learned student_t", "predicted", "spherical"),
    ("mixed", "auto", "diag"),
    ("mixed", "predicted", "diag"),
    ("mixed outputs", "auto", "diag"),
    ("mixed outputs", "predicted", "diag"),
]
COMBINATIONS = [*location_scale_combinations(), *BY_DERIVATIVES]
# One of the objectives for each combination: one step is compared for all of them.
IN_TURNS = [
    pytest.param(combination, kind, id="-".join([*combination, kind]))
    for combination, kind in zip(COMBINATIONS, itertools.cycle(OBJECTIVES))
]


@pytest.mark.parametrize(("R", "has_missing"), [(1, True), (3, False)])
@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_gradients_and_metrics_equal_autograd(combination, kind, R, has_missing):
    objectives, steps = steps_of_both_kinds(combination, kind, R, None, has_missing)
    # Twice, because the second call uses memory that holds results of the first.
    for seed in (0, 1):
        inputs = batch(R, objectives[0].n_mc_samples, seed)
        if has_missing:
            modules = steps[0][2]
            inputs = batch_with_holes(modules, objectives[0].n_mc_samples, seed)
        progress = [0.1 + 0.3 * r + 0.05 * seed for r in range(R)]
        found = []
        for step, parameters, modules in steps:
            metrics = step(*inputs, progress).clone()
            buffers = torch.cat([b.reshape(-1) for m in modules for b in m.buffers()])
            grads = by_parameter(parameters, parameters.grads)
            found.append((metrics, grads, buffers.clone()))
        # Differences of digamma functions lose digits.
        tol = 1e-9 if combination[0] in ("negative_binomial", "mixed outputs") else 1e-11
        for ours, autograds in zip(*found, strict=True):
            torch.testing.assert_close(ours, autograds, rtol=tol, atol=1e-2 * tol)
        assert found[0][1].abs().max() > 1e-3


@pytest.mark.parametrize("activation", ACTIVATIONS)
# With 12 hidden units, D and K, the first layers lie transposed in memory.
@pytest.mark.parametrize("hidden", [(), (3,), (6, 4, 3), (12, 16)])
@pytest.mark.parametrize("has_missing", [False, True])
def test_gradients_of_networks_equal_autograd(activation, hidden, has_missing):
    network = MLP(hidden, activation=activation)
    _, steps = steps_of_both_kinds(
        ("gaussian", "optimal", "spherical"), "posterior", 2, network, has_missing
    )
    if hidden == (12, 16) and not has_missing:
        first = steps[0][2][0].encoder[0].weight
        assert not first.is_contiguous()
        assert first.stride() == (1, 12 + 2 * K)
    inputs = batch_with_holes(steps[0][2], 1) if has_missing else batch(2, 1)
    ours, autograds = (
        (step(*inputs, [0.5, 0.5]).clone(), by_parameter(parameters, parameters.grads))
        for step, parameters, _ in steps
    )
    torch.testing.assert_close(ours, autograds, rtol=1e-11, atol=1e-13)


def test_gradients_equal_finite_differences():
    """Finite differences of the loss check autograd too."""
    combination = ("laplace", "predicted", "diag")
    objectives, ((step, parameters, modules), _) = steps_of_both_kinds(
        combination, "posterior"
    )
    inputs = batch(1, 1)
    step(*inputs, [1.0])
    grads = parameters.grads.clone()

    def loss():
        y, row_weight, noise = (part[0] for part in inputs)
        with torch.no_grad():
            return float(objectives[0].loss(modules[0], y, row_weight, noise, 1.0)[0])

    for i in range(0, len(grads), 7):
        value = float(parameters.values[i])
        sides = []
        for h in (1e-6, -1e-6):
            parameters.values[i] = value + h
            sides.append(loss())
        parameters.values[i] = value
        assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(float(grads[i]), abs=1e-6)


class AllocationRecorder(TorchDispatchMode):
    """A record of the sizes of the results that are in new memory."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = [
            t for t in (*args, *(kwargs or {}).values()) if isinstance(t, torch.Tensor)
        ]
        places = {t.untyped_storage().data_ptr() for t in given}
        results = result if isinstance(result, (list, tuple)) else [result]
        self.sizes += [
            t.numel() for t in results if t.untyped_storage().data_ptr() not in places
        ]
        return result


WITHOUT_LARGE_ALLOCATIONS = [
    (name, mode, covariance_type)
    for name, mode, covariance_type in location_scale_combinations()
    # The logistic, the mixture and Student's t density allocate exponentials. A predicted
    # scale per feature is as large as a batch.
    if name not in ("logistic", "mixture", "student_t")
    and (mode, covariance_type) != ("predicted", "diag")
]


@pytest.mark.parametrize("R", [1, 3])
@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("combination", WITHOUT_LARGE_ALLOCATIONS, ids="-".join)
def test_step_allocates_no_batch(combination, kind, R):
    """New results are as small as a row or a column of each model's batch."""
    _, ((step, *_), _) = steps_of_both_kinds(combination, kind, R)
    inputs = batch(R, step.objectives[0].n_mc_samples)
    step(*inputs, [0.5] * R)
    with AllocationRecorder() as allocated:
        step(*inputs, [0.5] * R)
    assert max(allocated.sizes) <= R * step.n_draws * max(N, D)


def train_steps(combination, kind, kind_of_step, n_steps, R=1, only=None, rates=None):
    """Train R models on data sets of different sizes, with weights and penalties.

    Returns parameters and buffers of each model. ``only`` trains one of the models alone.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, D)) @ rng.normal(size=(D, D))
    sizes = [50, 49, 53, 60][:R]
    chosen = range(R) if only is None else [only]
    modules, row_sets, standardizations, objectives = [], [], [], []
    for r in chosen:
        rows = np.random.default_rng(r).permutation(60)[: sizes[r]]
        weight = np.linspace(0.5, 1.5, len(rows))
        # No row is repeated in an epoch, because the largest weight is 1.
        row_sets.append(Rows(X, rows, weight, mean_weight=2 / 3))
        ones = np.ones(D)
        mean, std = X[rows].mean(axis=0), X[rows].std(axis=0)
        standardizations.append(Standardization(mean, std, ones, ones))
        objective = OBJECTIVES[kind]()
        if isinstance(objective, ELBO):
            objective.beta *= 1 + r
        objectives.append(objective)
        modules.append(make_module(combination, objective.n_heads, MLP((6,)), seed=r))
    autocast = None if kind_of_step is AnalyticStep else torch.bfloat16
    parameters = flatten(modules, objectives[0], autocast)

    def generators(first):
        return [torch.Generator().manual_seed(first + r) for r in chosen]

    batches = Batches(
        row_sets,
        standardizations,
        batch_size=16,
        shuffle=True,
        noise_shape=(objectives[0].n_mc_samples, K),
        dtype=torch.float64,
        device=torch.device("cpu"),
        order=generators(0),
        noise=generators(100),
    )
    arguments = (modules, objectives, parameters)
    if kind_of_step is AnalyticStep:
        arguments = (*arguments, batches.size)
    step = kind_of_step(*arguments)
    adam = Adam(parameters, [0.01 * (r + 1) for r in chosen])
    n_done = 0
    while n_done < n_steps:
        for inputs in batches.epoch():
            n_done += 1
            step(*inputs, [n_done / n_steps] * len(chosen))
            adam.step([1e-2 if rates is None else rates[r] for r in chosen])
    # Copies, because views would keep the whole flat buffer.
    return [
        torch.cat([t.detach().reshape(-1) for t in m.state_dict().values()])
        for m in modules
    ]


@pytest.mark.parametrize(("combination", "kind"), IN_TURNS)
def test_fifty_steps_equal_autograd(combination, kind):
    ours, autograds = (
        train_steps(combination, kind, which, 50) for which in (AnalyticStep, AutogradStep)
    )
    # In a batch of zeros the scale of counts has hardly a gradient, and Adam divides its
    # rounding error by itself.
    has_counts = combination[0] in ("negative_binomial", "mixed outputs")
    tol = 1e-3 if has_counts else 1e-9
    torch.testing.assert_close(ours, autograds, rtol=tol, atol=tol)


@pytest.mark.parametrize(("combination", "kind"), IN_TURNS)
def test_models_side_by_side_equal_models_alone(combination, kind):
    # Five epochs.
    n_steps, rates = 20, [1e-2, 3e-3, 0.0, 2e-2]
    together = train_steps(combination, kind, AnalyticStep, n_steps, R=4, rates=rates)
    for r in range(4):
        (alone,) = train_steps(
            combination, kind, AnalyticStep, n_steps, R=4, only=r, rates=rates
        )
        torch.testing.assert_close(together[r], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
def test_float32_fits_in_lockstep_equal_fits_alone(likelihood, activation, counted):
    """The models are equal bit by bit.

    Their widths and sizes are no multiples of the vector size.
    """
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(300, 7)) @ rng.normal(size=(7, 13))).astype(np.float32)
    models = [
        VariationalAutoencoder(
            3,
            likelihood=likelihood,
            activation=activation,
            hidden_layer_sizes=(10, 6),
            beta=1 + 0.1 * i,
            learning_rate_init=rate,
            batch_size=50,
            max_iter=30,
            n_iter_no_change=30,
            random_state=i,
        )
        for i, rate in enumerate([1e-2, 5e-3, 5e-3, 2e-2, 1e-2])
    ]
    together = [clone(model) for model in models]
    run_in_lockstep([lambda m=m: m.fit(X) for m in together], len(models))
    alone = [clone(model).fit(X) for model in models]
    assert counted == [5, 1, 1, 1, 1, 1]
    for a, b in zip(together, alone, strict=True):
        assert a.n_iter_ == b.n_iter_ == 30
        for own, other in zip(
            a.module_.state_dict().values(), b.module_.state_dict().values(), strict=True
        ):
            assert torch.equal(own, other)
        assert a.score(X) == b.score(X)


# ----------------------------------------------------------- which steps are analytic


class Cauchy(Likelihood):
    unit_stddev = 1.0

    def log_prob(self, x, loc, log_scale):
        t = (x - loc) * torch.exp(-log_scale)
        return -torch.log1p(t.square()) - log_scale - math.log(math.pi)

    def sample(self, loc, log_scale, generator):
        """Draw nothing: no test here uses draws."""


class OtherDensity(GaussianLikelihood):
    """Another density with the derivative of the Gaussian."""

    def standard_log_prob(self, t, *, out=None):
        return -(t**4)


class OtherLogProb(GaussianLikelihood):
    def log_prob(self, x, loc, log_scale):
        return 2 * super().log_prob(x, loc, log_scale)


class OtherDensityAndInfluence(OtherDensity):
    def influence_(self, t):
        return t.pow_(3).mul_(4)


class NoInfluence(LocationScale):
    unit_stddev = 1.0

    def standard_log_prob(self, t, *, out=None):
        return -t.square()

    def sample(self, loc, log_scale, generator):
        """Draw nothing: no test here uses draws."""


class PlainSubclass(GaussianLikelihood):
    """A subclass that changes nothing."""


@pytest.mark.parametrize(
    ("likelihood", "expected"),
    [
        (GaussianLikelihood, True),
        (PlainSubclass, True),
        (OtherDensityAndInfluence, True),
        (Cauchy, False),
        (OtherDensity, False),
        (OtherLogProb, False),
        (NoInfluence, False),
    ],
)
def test_likelihoods_with_analytic_step(likelihood, expected):
    spec = Spec(D, K, 2, MLP((3,)), likelihood(), "fixed", "spherical")
    ones = torch.ones(D), torch.ones(1, 1)
    module = AutoencoderModule(spec, *ones, torch.Generator().manual_seed(0))
    assert has_analytic_gradient(module, OBJECTIVES["posterior"]()) is expected
    objective = OBJECTIVES["posterior"]()
    step = make_step([module], [objective], flatten([module], objective), N)
    assert isinstance(step, AnalyticStep if expected else AutogradStep)


@pytest.mark.parametrize("part", ["encoder", "linear_encoder", "linear_decoder"])
def test_frozen_weights_use_autograd(part):
    module = make_module(("gaussian", "optimal", "diag"), 1)
    next(getattr(module, part).parameters()).requires_grad_(False)
    objective = NegativeLogLikelihood()
    assert not has_analytic_gradient(module, objective)
    assert isinstance(
        make_step([module], [objective], flatten([module], objective), N), AutogradStep
    )


class OtherObjective(NegativeLogLikelihood):
    pass


def test_subclass_of_objective_uses_autograd():
    module = make_module(("gaussian", "optimal", "diag"), 1)
    assert has_analytic_gradient(module, NegativeLogLikelihood())
    assert not has_analytic_gradient(module, OtherObjective())


shared = nn.Linear(3, 3)
hooked = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
hooked[0].register_forward_hook(lambda module, inputs, output: 2 * output)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.Linear(3, 3)),
        nn.Sequential(nn.ReLU(), nn.Linear(3, 3)),  # the activation would overwrite X
        nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.ReLU(), nn.Linear(3, 3)),
        nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.ReLU()),
        nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 3)),
        nn.Sequential(nn.Linear(3, 3)),
        nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU(), nn.Linear(3, 3)),
        nn.Sequential(shared, nn.ReLU(), shared),
        nn.Sequential(),
        nn.Linear(3, 3),
        hooked,
    ],
    ids=str,
)
def test_networks_that_use_autograd(network):
    assert not is_chain_of_layers(network)


@pytest.mark.parametrize("bias", [True, False])
def test_plain_sequence_is_chain_of_layers(bias):
    layers = [
        nn.Linear(3, 4),
        nn.Tanh(),
        nn.Linear(4, 4, bias=False),
        nn.Linear(4, 2, bias),
    ]
    network, linear = nn.Sequential(*layers).double(), nn.Linear(3, 2).double()
    assert is_chain_of_layers(network)
    x = torch.randn(N, 3, dtype=torch.float64)
    expected = (linear(x) + network(x)).detach()
    parameters = FlatParameters(
        [[*linear.parameters(), *network.parameters()]],
        fused=fused_parameters(linear, network),
    )

    def empty(*shape):
        return torch.empty(1, *shape, dtype=torch.float64)

    coder = Coder(linear, network, N, parameters.stacked, empty)
    for _ in range(2):
        with torch.inference_mode():
            torch.testing.assert_close(coder.forward(x[None])[0], expected)


@pytest.mark.parametrize("name", sorted(LOCATION_SCALE))
def test_influence_is_the_derivative_of_the_log_density(name):
    values = [*np.linspace(-5, 5, 41), -300.0, 1e4, 1e-3]
    t = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    outputs = LIKELIHOODS[name]().start_outputs(len(t)).double()
    likelihood = LIKELIHOODS[name]().given(outputs)
    likelihood.standard_log_prob(t).sum().backward()
    out, overwritten = torch.empty(t.shape, dtype=t.dtype), t.detach().clone()
    grad_outputs = torch.empty_like(outputs)
    psi = likelihood.differentiate_(overwritten, out=out, grad_outputs=grad_outputs)
    assert psi is overwritten
    torch.testing.assert_close(psi, -t.grad, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(out, likelihood.standard_log_prob(t).detach())
    assert likelihood.standard_log_prob(t.detach(), out=out) is out
    torch.testing.assert_close(out, likelihood.standard_log_prob(t).detach())


def test_all_registered_combinations_have_analytic_gradient():
    """The objectives of this file are all objectives of skae."""
    parts = [part for part in vars(objectives).values() if isinstance(part, type)]
    known = {type(make()) for make in OBJECTIVES.values()}
    assert known == {p for p in parts if issubclass(p, Objective) and p is not Objective}
    for combination, make in itertools.product(
        location_scale_combinations(), OBJECTIVES.values()
    ):
        objective = make()
        assert has_analytic_gradient(make_module(combination, objective.n_heads), objective)


@pytest.mark.parametrize("hidden", [(), 3, (4, 3)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_all_registered_networks_have_analytic_gradient(name, activation, hidden):
    network = NETWORKS[name](hidden_layer_sizes=hidden, activation=activation)
    for make in OBJECTIVES.values():
        module = make_module(("laplace", "learned", "diag"), make().n_heads, network)
        assert has_analytic_gradient(module, make())


PRECISIONS = BaseAutoencoder._parameter_constraints["precision"][0].options
FITS = [
    *(
        VariationalAutoencoder(
            likelihood=likelihood, variance_mode=mode, covariance_type=covariance_type
        )
        for likelihood, mode, covariance_type in location_scale_combinations()
    ),
    *(VariationalAutoencoder(kl_schedule=name, n_mc_samples=2) for name in KL_SCHEDULES),
    *(GaussianAutoencoder(activation=name) for name in ACTIVATIONS),
    *(LaplaceAutoencoder(network=name, hidden_layer_sizes=()) for name in NETWORKS),
    VariationalAutoencoder(warm_start=True, gradient_balance=True, early_stopping=True),
]


@pytest.mark.filterwarnings("ignore:The scales? of .* floor min_scale")
@pytest.mark.parametrize("precision", sorted(PRECISIONS))
@pytest.mark.parametrize("model", FITS, ids=str)
def test_step_of_an_estimator(model, precision, X, monkeypatch):
    """Only bf16 uses autograd, because autocast rounds its products."""
    steps = []

    def recording_make_step(*args):
        steps.append(make_step(*args))
        return steps[-1]

    monkeypatch.setattr(trainer, "make_step", recording_make_step)
    clone(model).set_params(precision=precision, max_iter=1, device="cpu").fit(X)
    (step,) = steps
    if precision == "bf16":
        assert isinstance(step, AutogradStep)
        assert step.autocast == torch.bfloat16
    else:
        dtype = torch.float64 if precision == "float64" else torch.float32
        assert isinstance(step, AnalyticStep)
        assert step.x.dtype == dtype


def test_autocast_rounds_the_products():
    """The error is that of bfloat16, which has 8 bits; parameters stay float32."""
    grads = []
    for autocast in (None, torch.bfloat16):
        objective = OBJECTIVES["posterior"]()
        modules = [make_module(("gaussian", "fixed", "diag"), 2).float()]
        parameters = flatten(modules, objective, torch.bfloat16)
        step = AutogradStep(modules, [objective], parameters, autocast)
        step(*(part.float() for part in batch(1, 1)), [1.0])
        assert parameters.grads.dtype == torch.float32
        grads.append(parameters.grads)
    error = (grads[1] - grads[0]).norm() / grads[0].norm()
    assert 2**-12 < error < 2**-4


class QuarticLogProb(GaussianLikelihood):
    """A density with its own derivative, but not as a function of (x - loc) / scale."""

    def log_prob(self, x, loc, log_scale):
        return -((x - loc) ** 4) - log_scale

    def influence_(self, t):
        return t.pow_(3).mul_(4)


def test_own_log_prob_uses_autograd():
    assert not QuarticLogProb().has_analytic_gradient


def test_coders_that_share_a_layer_use_autograd():
    module = make_module(("gaussian", "optimal", "diag"), 1, MLP((4,)))
    assert has_analytic_gradient(module, NegativeLogLikelihood())
    layer = nn.Linear(3, 3)
    module.encoder = nn.Sequential(nn.Linear(D, 3), nn.Tanh(), layer, nn.Linear(3, K))
    module.decoder = nn.Sequential(nn.Linear(K, 3), nn.Tanh(), layer, nn.Linear(3, D))
    assert is_chain_of_layers(module.encoder)
    assert is_chain_of_layers(module.decoder)
    assert not has_analytic_gradient(module, NegativeLogLikelihood())


def test_subclass_of_scale_uses_autograd():
    module = make_module(("gaussian", "learned", "diag"), 1)

    class Halved(type(module.scale)):
        def log_scale(self, outputs):
            return 0.5 * super().log_scale(outputs)

    module.scale.__class__ = Halved
    assert not has_analytic_gradient(module, NegativeLogLikelihood())


def test_layer_with_replaced_forward_is_no_chain_of_layers():
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[0].forward = lambda x: x
    assert not is_chain_of_layers(network)
