"""The methods of a fitted autoencoder as a graph, alone or inside a pipeline."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skae.estimators.base import BaseAutoencoder
from skae.estimators.deterministic import GaussianAutoencoder, LaplaceAutoencoder
from skae.estimators.variational import VariationalAutoencoder
from skae.likelihoods import n_outputs
from skae.onnx.graph import DOUBLE, FLOAT, IR_VERSION, OPSET, Graph
from skae.onnx.layers import add_linear, add_network, single
from skae.onnx.means import Decoded, add_input, add_mean
from skae.onnx.tables import add_features, add_table

# Since then, operators take as inputs what were attributes before, such as axes. The layer
# LayerNorm needs 17, which an error of skl2onnx says.
_LEAST_OPSET = 13
_METHODS = ("transform", "inverse_transform", "reconstruct")


def to_onnx(estimator: BaseAutoencoder, method: str = "transform") -> Any:
    """Convert a method of a fitted autoencoder to an ONNX model.

    The model takes one array ``X`` of float32, ``(n, n_features)``, or codes
    ``(n, n_components)`` for "inverse_transform", and returns one array of float32: ``Z``
    of "transform", ``X_hat`` of the others. The networks compute in float32, the
    standardisation and the means of the likelihood in float64.

    Parameters
    ----------
    estimator : GaussianAutoencoder, LaplaceAutoencoder or VariationalAutoencoder
        A fitted model. A column of a table must have numbers only.

    method : {"transform", "inverse_transform", "reconstruct"}, default="transform"
        The method.

    Returns
    -------
    model : onnx.ModelProto
        The model, with operators of opset 17.

    Raises
    ------
    ImportError
        If onnx is not installed.
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If the estimator is another one, or has a layer or a likelihood of a user that has
        no operators.
    ValueError
        If there is no such method, if a column has values that are no numbers, or has
        categories that float32 cannot tell apart, or if the encoder needs to know which
        entries are missing.

    See Also
    --------
    register_converters : For pipelines, with skl2onnx.

    Notes
    -----
    The model does not check its input. NaN, and numbers that the likelihood has no density
    for, such as negative counts, become NaN. Results that overflow are not replaced.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skae import VariationalAutoencoder
    >>> from skae.onnx import to_onnx
    >>> X = load_iris().data
    >>> vae = VariationalAutoencoder(2, max_iter=5, random_state=0).fit(X)
    >>> model = to_onnx(vae, "inverse_transform")
    >>> [value.name for value in model.graph.output]
    ['X_hat']
    """
    onnx = _imported("onnx")
    import_numpy = _imported("onnx.numpy_helper")
    graph, output = _graph_of(estimator, method)
    output = graph.cast(output, FLOAT)
    n_in, n_out = estimator.n_features_in_, estimator.n_features_in_
    last = "X_hat"
    if method == "inverse_transform":
        n_in = estimator.n_components_
    elif method == "transform":
        n_out, last = estimator.n_components_, "Z"
    helper = onnx.helper
    nodes = [
        helper.make_node(operator, inputs, [last if name == output else name], **attributes)
        for operator, inputs, name, attributes in graph.nodes
    ]
    return helper.make_model(
        helper.make_graph(
            nodes,
            f"{type(estimator).__name__}.{method}",
            [helper.make_tensor_value_info(graph.input, FLOAT, [None, n_in])],
            [helper.make_tensor_value_info(last, FLOAT, [None, n_out])],
            [import_numpy.from_array(v, name) for name, v in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="skae",
    )


def register_converters() -> None:
    """Let skl2onnx convert ``transform`` of the three estimators, also in a pipeline.

    ``skl2onnx.to_onnx`` and ``skl2onnx.convert_sklearn`` then accept them. What cannot be
    converted raises the errors of :func:`to_onnx` there, TypeError for an input that is no
    dense array of numbers, and ValueError for a `target_opset` below 13. The result has the
    dtype of the input, float32 or float64, and float32 for integers. The networks compute
    in float32.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    See Also
    --------
    to_onnx : Without skl2onnx, and for the other methods.

    Examples
    --------
    >>> import numpy as np
    >>> import skl2onnx
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skae import GaussianAutoencoder
    >>> from skae.onnx import register_converters
    >>> X = load_iris().data.astype(np.float32)
    >>> model = GaussianAutoencoder(2, max_iter=5, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), model).fit(X)
    >>> register_converters()
    >>> [v.name for v in skl2onnx.to_onnx(pipeline, X[:1]).graph.output]
    ['variable']
    """
    skl2onnx = _imported("skl2onnx")
    for kind in (GaussianAutoencoder, LaplaceAutoencoder, VariationalAutoencoder):
        skl2onnx.update_registered_converter(
            kind, f"Skae{kind.__name__}", _set_output_type, _convert
        )


def _imported(name: str) -> Any:
    """Import a module of the extra; raise ImportError that names the extra."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"Conversion to ONNX needs {name.partition('.')[0]}: pip install 'skae[onnx]'"
        ) from error


def _graph_of(estimator: Any, method: str) -> tuple[Graph, str]:
    """Return the graph of a method, and the name of its output, float32 or float64."""
    if method not in _METHODS:
        raise ValueError(f"method must be one of {list(_METHODS)}, got {method!r}.")
    if not isinstance(estimator, BaseAutoencoder):
        raise TypeError(
            f"to_onnx converts the estimators of skae, got {estimator!r}. For a pipeline, "
            "call skae.onnx.register_converters() and then skl2onnx.to_onnx."
        )
    check_is_fitted(estimator)
    graph = Graph()
    z = graph.input
    if method != "inverse_transform":
        z = _add_code(graph, estimator)
    output = z if method == "transform" else _add_decoded(graph, estimator, z)
    graph.keep(output)
    return graph, output


def _add_code(graph: Graph, estimator: Any) -> str:
    """Add the code of each row of a table, ``(n, k)``, float32."""
    module, own = estimator.module_, estimator._standardization
    spec = module.spec
    if spec.has_missing:
        raise ValueError(
            "The model was fitted to data with missing entries. Its encoder fills them by "
            "solving equations for each row, which cannot be converted to ONNX. Fill X "
            "before the fit, or convert method='inverse_transform' only."
        )
    x = graph.cast(graph.input, DOUBLE)
    features = add_features(graph, estimator._table.columns, x)
    parts = spec.likelihood.parts(spec.n_features)
    seen = [
        add_input(graph, family, graph.columns(features, part.start, part.stop))
        for part, family in parts
    ]
    y = graph.add("Sub", graph.join(seen), own.mean)
    y = graph.cast(graph.add("Div", y, own.std), FLOAT)
    linear = add_linear(graph, module.linear_encoder, y)
    heads = graph.add("Add", linear, add_network(graph, module.encoder, y))
    heads = graph.add("Mul", heads, single(module.code_gain))
    return graph.columns(heads, 0, spec.n_components)


def _add_decoded(graph: Graph, estimator: Any, z: str) -> str:
    """Add the table of each code, ``(n, n_columns)``, float64."""
    module, own = estimator.module_, estimator._standardization
    spec, likelihood = module.spec, module.spec.likelihood
    d, n_scale = spec.n_features, module.scale.n_outputs
    z = graph.add("Mul", graph.cast(z, FLOAT), single(module.latent_gain))
    linear = add_linear(graph, module.linear_decoder, z)
    decoded = graph.add("Add", linear, add_network(graph, module.decoder, z))
    decoded = graph.cast(decoded, DOUBLE)
    loc = graph.columns(decoded, 0, d)
    loc = graph.add("Mul", loc, np.asarray(single(module.loc_gain), np.float64))
    if module.linked:
        loc = graph.add("Add", loc, np.asarray(single(module.loc_offset), np.float64))
    end = d + n_scale
    mean = add_mean(
        graph,
        likelihood,
        Decoded(
            n_features=d,
            loc=loc,
            scale=module.scale,
            scale_outputs=graph.columns(decoded, d, end),
            outputs=graph.columns(decoded, end, end + n_outputs(likelihood, d)),
            center=own.center,
            unit=own.likelihood_unit,
        ),
    )
    return add_table(graph, estimator._table.columns, mean)


def _set_output_type(operator: Any) -> None:
    """Set type and shape of the output of an estimator in a graph of skl2onnx."""
    types = _imported("skl2onnx.common.data_types")
    estimator, given = operator.raw_operator, [x.type for x in operator.inputs]
    check_is_fitted(estimator)
    numbers = types.FloatTensorType, types.DoubleTensorType, types.Int64TensorType
    for kind in given:
        if not isinstance(kind, numbers):
            raise TypeError(
                f"{type(estimator).__name__} in ONNX takes a dense array of float32, "
                f"float64 or int64, got {kind!r}."
            )
    # A frame has one input for each column.
    widths = [kind.shape[1] if len(kind.shape) == 2 else None for kind in given]
    n_columns = sum(width or 0 for width in widths)
    if None not in widths and n_columns != estimator.n_features_in_:
        raise ValueError(
            f"X has {n_columns} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input."
        )
    is_double = any(isinstance(kind, types.DoubleTensorType) for kind in given)
    kind = types.DoubleTensorType if is_double else types.FloatTensorType
    n = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = kind([n, estimator.n_components_])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add ``transform`` of an estimator to a graph of skl2onnx."""
    if container.target_opset < _LEAST_OPSET:
        raise ValueError(
            f"{type(operator.raw_operator).__name__} in ONNX needs a target_opset of at "
            f"least {_LEAST_OPSET}, got {container.target_opset}."
        )
    graph, output = _graph_of(operator.raw_operator, "transform")
    types = _imported("skl2onnx.common.data_types")
    is_double = isinstance(operator.outputs[0].type, types.DoubleTensorType)
    output = graph.cast(output, DOUBLE if is_double else FLOAT)
    names = {graph.input: _joined(scope, operator.inputs, container)}
    names[output] = operator.outputs[0].full_name
    numpy_helper = _imported("onnx.numpy_helper")
    for name, values in graph.constants.items():
        names[name] = scope.get_unique_variable_name(name)
        tensor = numpy_helper.from_array(values)
        container.add_initializer(names[name], tensor.data_type, values.shape, tensor)
    for kind, inputs, name, attributes in graph.nodes:
        names.setdefault(name, scope.get_unique_variable_name(name))
        container.add_node(
            kind,
            [names[x] for x in inputs],
            [names[name]],
            name=scope.get_unique_operator_name(kind),
            **attributes,
        )


def _joined(scope: Any, inputs: Any, container: Any) -> str:
    """Put the inputs of an estimator side by side, and return the name of the result."""
    if len(inputs) == 1:
        return str(inputs[0].full_name)
    parts = []
    for x in inputs:
        parts.append(scope.get_unique_variable_name("cast"))
        name = scope.get_unique_operator_name("Cast")
        container.add_node("Cast", [x.full_name], [parts[-1]], name=name, to=DOUBLE)
    joined = str(scope.get_unique_variable_name("concat"))
    name = scope.get_unique_operator_name("Concat")
    container.add_node("Concat", parts, [joined], name=name, axis=1)
    return joined
