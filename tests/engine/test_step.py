"""The compiled step against autograd, over the registries; one model and several."""

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
    _fit,
    objectives,
)
from skae._base import BaseAutoencoder
from skae._fitting.lockstep import run_in_lockstep
from skae._module import AutoencoderModule, Spec
from skae.engine import AutogradStep, flatten, make_step
from skae.engine.compiled import CompiledStep, is_compilable
from skae.engine.halves import Half, is_known, joined
from skae.likelihoods import LIKELIHOODS, GaussianLikelihood, Likelihood, LocationScale
from skae.networks import ACTIVATIONS, MLP, NETWORKS
from skae.objectives import ELBO, KL_SCHEDULES, NegativeLogLikelihood, Objective
from skae.scales import legal_combinations
from skae.training import Adam, Batches, FlatParameters, TrainingSet

D, K, N = 5, 2, 7
OBJECTIVES = {
    "code": lambda: NegativeLogLikelihood(),
    "posterior": lambda: ELBO(0.7, "linear", 1),
    "three draws": lambda: ELBO(1.3, "constant", 3),
}


def make_module(combination, n_heads, network=None, seed=0):
    name, mode, covariance_type = combination
    spec = Spec(
        D, K, n_heads, network or MLP((4, 6), activation="tanh"),
        LIKELIHOODS[name](), mode, covariance_type,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    m = D if covariance_type == "diag" else 1
    ratio = torch.rand(D, generator=generator, dtype=torch.float64) + 0.5
    floor = torch.full((1, m), 0.01 * (seed + 1), dtype=torch.float64)
    torch.manual_seed(seed)
    module = AutoencoderModule(spec, ratio, floor).double()
    module.scale.start(torch.full((1, m), 0.8, dtype=torch.float64))
    with torch.no_grad():
        # The output layers, which start at zero, too; and gains other than 1.
        for p in module.parameters():
            p.normal_(0, 0.6, generator=generator)
        module.loc_gain.uniform_(0.3, 1.4, generator=generator)
        module.code_gain.uniform_(0.3, 1.4, generator=generator)
    return module


def by_parameter(parameters, flat):
    """A flat buffer in the order of the parameters, however they lie."""
    return torch.cat([part.reshape(-1) for part in parameters.views(flat)])


def batch(R, n_draws, seed=0):
    generator = torch.Generator().manual_seed(seed)
    normal = torch.empty(R, N, D, dtype=torch.float64).normal_(generator=generator)
    share = torch.rand(R, N, 1, generator=generator, dtype=torch.float64) / N
    share[:, -1] = 0  # as a row that only fills up the batch
    noise = torch.empty(R, n_draws, N, K, dtype=torch.float64).normal_(generator=generator)
    return normal, share, noise


def both(combination, kind, R=1, network=None):
    """The two ways of computing a step, each with models of its own."""
    objectives = [OBJECTIVES[kind]() for _ in range(R)]
    for i, objective in enumerate(objectives):
        if isinstance(objective, ELBO):
            objective.beta *= 1 + i
    steps = []
    for kind_of_step in (CompiledStep, AutogradStep):
        modules = [
            make_module(combination, objectives[0].n_heads, network, seed=i)
            for i in range(R)
        ]
        is_compiled = kind_of_step is CompiledStep
        parameters = flatten(
            modules, objectives[0], None if is_compiled else torch.bfloat16
        )
        arguments = (modules, objectives, parameters)
        if is_compiled:
            assert is_compilable(modules[0], objectives[0])
            arguments = (*arguments, N)
        steps.append((kind_of_step(*arguments), parameters, modules))
    return objectives, steps


@pytest.mark.parametrize("R", [1, 3])
@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("combination", legal_combinations(), ids="-".join)
def test_gradients_and_metrics_are_autograds(combination, kind, R):
    objectives, steps = both(combination, kind, R)
    # Twice: the second call finds memory that the first one has written to.
    for seed in (0, 1):
        inputs = batch(R, objectives[0].n_mc_samples, seed)
        progress = [0.1 + 0.3 * r + 0.05 * seed for r in range(R)]
        found = []
        for step, parameters, modules in steps:
            metrics = step(*inputs, progress).clone()
            buffers = torch.cat([b.reshape(-1) for m in modules for b in m.buffers()])
            grads = by_parameter(parameters, parameters.grads)
            found.append((metrics, grads, buffers.clone()))
        for ours, autograds in zip(*found, strict=True):
            torch.testing.assert_close(ours, autograds, rtol=1e-11, atol=1e-13)
        assert found[0][1].abs().max() > 1e-3


@pytest.mark.parametrize("activation", ACTIVATIONS)
# With 12 the parameters of the first layers lie transposed, D and K being what they are.
@pytest.mark.parametrize("hidden", [(), (3,), (6, 4, 3), (12, 16)])
def test_networks(activation, hidden):
    network = MLP(hidden, activation=activation)
    _, steps = both(("gaussian", "optimal", "spherical"), "posterior", 2, network)
    if hidden == (12, 16):
        first = steps[0][2][0].encoder[0].weight
        assert not first.is_contiguous()
        assert first.stride() == (1, 12 + 2 * K)
    inputs = batch(2, 1)
    ours, autograds = (
        (step(*inputs, [0.5, 0.5]).clone(), by_parameter(parameters, parameters.grads))
        for step, parameters, _ in steps
    )
    torch.testing.assert_close(ours, autograds, rtol=1e-11, atol=1e-13)


def test_gradients_are_the_slopes_of_the_loss():
    """Not only autograd's: finite differences of what is minimised."""
    combination = ("laplace", "predicted", "diag")
    objectives, ((step, parameters, modules), _) = both(combination, "posterior")
    inputs = batch(1, 1)
    step(*inputs, [1.0])
    grads = parameters.grads.clone()

    def loss():
        y, share, noise = (part[0] for part in inputs)
        with torch.no_grad():
            return float(objectives[0].loss(modules[0], y, share, noise, 1.0)[0])

    for i in range(0, len(grads), 7):
        value = float(parameters.values[i])
        sides = []
        for h in (1e-6, -1e-6):
            parameters.values[i] = value + h
            sides.append(loss())
        parameters.values[i] = value
        assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(float(grads[i]), abs=1e-6)


class NewMemory(TorchDispatchMode):
    """Notes the sizes of results that are in memory of their own."""

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


FRUGAL = [
    (name, mode, covariance_type)
    for name, mode, covariance_type in legal_combinations()
    # The logistic density has exponentials, and these scales are as large as a batch.
    if name != "logistic" and (mode, covariance_type) != ("predicted", "diag")
]


@pytest.mark.parametrize("R", [1, 3])
@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("combination", FRUGAL, ids="-".join)
def test_memory_for_a_batch_is_there_before(combination, kind, R):
    """What a step makes anew is as small as a row or a column of each model's batch."""
    _, ((step, *_), _) = both(combination, kind, R)
    inputs = batch(R, step.objectives[0].n_mc_samples)
    step(*inputs, [0.5] * R)
    with NewMemory() as made:
        step(*inputs, [0.5] * R)
    assert max(made.sizes) <= R * step.n_draws * max(N, D)


def trained(combination, kind, kind_of_step, n_steps, R=1, only=None, rates=None):
    """Parameters and scales after some steps of training on R sets of different sizes."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, D)) @ rng.normal(size=(D, D))
    sizes = [50, 49, 53, 60][:R]
    chosen = range(R) if only is None else [only]
    modules, sets, objectives = [], [], []
    for r in chosen:
        rows = np.random.default_rng(r).permutation(60)[: sizes[r]]
        weight = np.linspace(0.5, 1.5, len(rows))
        sets.append(TrainingSet(X, rows, weight, X[rows].mean(axis=0), X[rows].std(axis=0)))
        objective = OBJECTIVES[kind]()
        if isinstance(objective, ELBO):
            objective.beta *= 1 + r
        objectives.append(objective)
        modules.append(make_module(combination, objective.n_heads, MLP((6,)), seed=r))
    autocast = None if kind_of_step is CompiledStep else torch.bfloat16
    parameters = flatten(modules, objectives[0], autocast)

    def generators(first):
        return [torch.Generator().manual_seed(first + r) for r in chosen]

    batches = Batches(
        sets,
        batch_size=16,
        shuffle=True,
        noise_shape=(objectives[0].n_mc_samples, K),
        dtype=torch.float64,
        device=torch.device("cpu"),
        order=generators(0),
        noise=generators(100),
    )
    arguments = (modules, objectives, parameters)
    if kind_of_step is CompiledStep:
        arguments = (*arguments, batches.size)
    step = kind_of_step(*arguments)
    adam = Adam(parameters, [0.01 * (r + 1) for r in chosen])
    done = 0
    while done < n_steps:
        for inputs in batches.epoch():
            done += 1
            step(*inputs, [done / n_steps] * len(chosen))
            adam.step([1e-2 if rates is None else rates[r] for r in chosen])
    # As copies: views of the flat buffer would not outlive it.
    return [
        torch.cat([t.detach().reshape(-1) for t in m.state_dict().values()])
        for m in modules
    ]


@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("combination", legal_combinations(), ids="-".join)
def test_fifty_steps_are_autograds(combination, kind):
    ours, autograds = (
        trained(combination, kind, which, 50) for which in (CompiledStep, AutogradStep)
    )
    torch.testing.assert_close(ours, autograds, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rates", [None, [1e-2, 3e-3, 0.0, 2e-2]])
@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("combination", legal_combinations(), ids="-".join)
def test_models_trained_together_are_those_trained_alone(combination, kind, rates):
    together = trained(combination, kind, CompiledStep, 50, R=4, rates=rates)
    for r in range(4):
        (alone,) = trained(combination, kind, CompiledStep, 50, R=4, only=r, rates=rates)
        torch.testing.assert_close(together[r], alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
def test_in_single_precision_a_model_is_the_same_whoever_is_beside_it(
    likelihood, activation, counted
):
    """To the bit, with widths and sizes that leave odd numbers over everywhere."""
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


# ----------------------------------------------------------------- what gets compiled


class Cauchy(Likelihood):
    unit_stddev = 1.0

    def log_prob(self, x, loc, log_scale):
        t = (x - loc) * torch.exp(-log_scale)
        return -torch.log1p(t.square()) - log_scale - math.log(math.pi)

    def sample(self, loc, log_scale, generator):
        """No test here asks for draws."""


class Sharper(GaussianLikelihood):
    """Another density, with the derivative of the old one."""

    def standard_log_prob(self, t, *, out=None):
        return -(t**4)


class OtherLogProb(GaussianLikelihood):
    def log_prob(self, x, loc, log_scale):
        return 2 * super().log_prob(x, loc, log_scale)


class BothChanged(Sharper):
    def influence_(self, t):
        return t.pow_(3).mul_(4)


class NoInfluence(LocationScale):
    unit_stddev = 1.0

    def standard_log_prob(self, t, *, out=None):
        return -t.square()

    def sample(self, loc, log_scale, generator):
        """No test here asks for draws."""


class Renamed(GaussianLikelihood):
    """Nothing of the density changed."""


@pytest.mark.parametrize(
    ("likelihood", "expected"),
    [
        (GaussianLikelihood, True),
        (Renamed, True),
        (BothChanged, True),
        (Cauchy, False),
        (Sharper, False),
        (OtherLogProb, False),
        (NoInfluence, False),
    ],
)
def test_which_likelihoods_are_compiled(likelihood, expected):
    spec = Spec(D, K, 2, MLP((3,)), likelihood(), "fixed", "spherical")
    module = AutoencoderModule(spec, torch.ones(D), torch.ones(1, 1))
    assert is_compilable(module, OBJECTIVES["posterior"]()) is expected
    objective = OBJECTIVES["posterior"]()
    step = make_step([module], [objective], flatten([module], objective), N)
    assert isinstance(step, CompiledStep if expected else AutogradStep)


@pytest.mark.parametrize("part", ["encoder", "linear_encoder", "linear_decoder"])
def test_frozen_weights_are_left_to_autograd(part):
    module = make_module(("gaussian", "optimal", "diag"), 1)
    next(getattr(module, part).parameters()).requires_grad_(False)
    objective = NegativeLogLikelihood()
    assert not is_compilable(module, objective)
    assert isinstance(
        make_step([module], [objective], flatten([module], objective), N), AutogradStep
    )


class OtherObjective(NegativeLogLikelihood):
    pass


def test_only_objectives_that_are_known_are_compiled():
    module = make_module(("gaussian", "optimal", "diag"), 1)
    assert is_compilable(module, NegativeLogLikelihood())
    assert not is_compilable(module, OtherObjective())


shared = nn.Linear(3, 3)
hooked = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
hooked[0].register_forward_hook(lambda module, inputs, output: 2 * output)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.Linear(3, 3)),
        nn.Sequential(nn.ReLU(), nn.Linear(3, 3)),  # would overwrite the data
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
def test_networks_that_are_left_to_autograd(network):
    assert not is_known(network)


@pytest.mark.parametrize("bias", [True, False])
def test_a_plain_sequence_is_known(bias):
    layers = [
        nn.Linear(3, 4),
        nn.Tanh(),
        nn.Linear(4, 4, bias=False),
        nn.Linear(4, 2, bias),
    ]
    network, linear = nn.Sequential(*layers).double(), nn.Linear(3, 2).double()
    assert is_known(network)
    x = torch.randn(N, 3, dtype=torch.float64)
    expected = (linear(x) + network(x)).detach()
    parameters = FlatParameters(
        [[*linear.parameters(), *network.parameters()]], joined=joined(linear, network)
    )

    def empty(*shape):
        return torch.empty(1, *shape, dtype=torch.float64)

    half = Half(linear, network, N, parameters.stacked, empty)
    for _ in range(2):
        with torch.inference_mode():
            torch.testing.assert_close(half.forward(x[None])[0], expected)


@pytest.mark.parametrize("name", sorted(LIKELIHOODS))
def test_influence_is_the_derivative_of_the_log_density(name):
    likelihood = LIKELIHOODS[name]()
    values = [*np.linspace(-5, 5, 41), -300.0, 1e4, 1e-3]
    t = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    likelihood.standard_log_prob(t).sum().backward()
    psi = likelihood.influence_(t.detach().clone())
    torch.testing.assert_close(psi, -t.grad, rtol=1e-12, atol=1e-15)
    out = torch.empty(len(values), dtype=torch.float64)
    assert likelihood.standard_log_prob(t.detach(), out=out) is out
    torch.testing.assert_close(out, likelihood.standard_log_prob(t).detach())


def test_all_pairs_of_registries_are_compiled():
    """And the objectives here are all that there are."""
    parts = [part for part in vars(objectives).values() if isinstance(part, type)]
    known = {type(make()) for make in OBJECTIVES.values()}
    assert known == {p for p in parts if issubclass(p, Objective) and p is not Objective}
    for combination, make in itertools.product(legal_combinations(), OBJECTIVES.values()):
        objective = make()
        assert is_compilable(make_module(combination, objective.n_heads), objective)


@pytest.mark.parametrize("hidden", [(), 3, (4, 3)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_all_registered_networks_are_compiled(name, activation, hidden):
    network = NETWORKS[name](hidden_layer_sizes=hidden, activation=activation)
    for make in OBJECTIVES.values():
        module = make_module(("laplace", "learned", "diag"), make().n_heads, network)
        assert is_compilable(module, make())


PRECISIONS = BaseAutoencoder._parameter_constraints["precision"][0].options
FITS = [
    *(
        VariationalAutoencoder(
            likelihood=likelihood, variance_mode=mode, covariance_type=covariance_type
        )
        for likelihood, mode, covariance_type in legal_combinations()
    ),
    *(VariationalAutoencoder(kl_schedule=name, n_mc_samples=2) for name in KL_SCHEDULES),
    *(GaussianAutoencoder(activation=name) for name in ACTIVATIONS),
    *(LaplaceAutoencoder(network=name, hidden_layer_sizes=()) for name in NETWORKS),
    VariationalAutoencoder(warm_start=True, gradient_balance=True, early_stopping=True),
]


@pytest.mark.filterwarnings("ignore:The scale of .* at its floor min_scale")
@pytest.mark.parametrize("precision", sorted(PRECISIONS))
@pytest.mark.parametrize("model", FITS, ids=str)
def test_what_an_estimator_trains_with(model, precision, X, monkeypatch):
    """The compiled step in every precision but one, whose rounding is autocast's."""
    steps = []

    def noted(*args):
        steps.append(make_step(*args))
        return steps[-1]

    monkeypatch.setattr(_fit, "make_step", noted)
    clone(model).set_params(precision=precision, max_iter=1, device="cpu").fit(X)
    (step,) = steps
    if precision == "bf16":
        assert isinstance(step, AutogradStep)
        assert step.autocast == torch.bfloat16
    else:
        dtype = torch.float64 if precision == "float64" else torch.float32
        assert isinstance(step, CompiledStep)
        assert step.x.dtype == dtype


def test_autocast_rounds_the_products():
    """By as much as bfloat16 does, whose numbers have eight bits; parameters stay exact."""
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


class OwnLogProb(GaussianLikelihood):
    """Its own density and its own derivative, but not of a standard variate."""

    def log_prob(self, x, loc, log_scale):
        return -((x - loc) ** 4) - log_scale

    def influence_(self, t):
        return t.pow_(3).mul_(4)


def test_a_log_prob_of_its_own_is_left_to_autograd():
    assert not OwnLogProb.has_influence()


def test_halves_that_share_a_layer_are_left_to_autograd():
    module = make_module(("gaussian", "optimal", "diag"), 1, MLP((4,)))
    assert is_compilable(module, NegativeLogLikelihood())
    layer = nn.Linear(3, 3)
    module.encoder = nn.Sequential(nn.Linear(D, 3), nn.Tanh(), layer, nn.Linear(3, K))
    module.decoder = nn.Sequential(nn.Linear(K, 3), nn.Tanh(), layer, nn.Linear(3, D))
    assert is_known(module.encoder)
    assert is_known(module.decoder)
    assert not is_compilable(module, NegativeLogLikelihood())


def test_a_changed_scale_is_left_to_autograd():
    module = make_module(("gaussian", "learned", "diag"), 1)

    class Halved(type(module.scale)):
        def log_scale(self, outputs):
            return 0.5 * super().log_scale(outputs)

    module.scale.__class__ = Halved
    assert not is_compilable(module, NegativeLogLikelihood())


def test_a_layer_with_another_forward_is_left_to_autograd():
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[0].forward = lambda x: x
    assert not is_known(network)
