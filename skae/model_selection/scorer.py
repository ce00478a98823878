"""The base class of scorers, functions of a fitted model and data."""

import copy
from typing import Any, Self

import sklearn
from sklearn.utils.metadata_routing import MetadataRequest

# Value of a request in scikit-learn's metadata routing: whether to pass an argument on, or
# its name at the search. None means that passing it to the search is an error.
Request = bool | str | None


class Scorer:
    """Scorer whose call takes a fitted estimator, X, y (ignored) and `sample_weight`.

    It returns a float.
    """

    _maker = ""
    # Whether scores of candidates depend on the units of their data.
    _is_log_likelihood = False

    def __init__(self, **parameters: Any) -> None:
        self._parameters = parameters
        self._sample_weight_request: Request = None

    def __repr__(self) -> str:
        """Return the call that makes this scorer."""
        parameters = ", ".join(f"{k}={v!r}" for k, v in self._parameters.items())
        return f"{self._maker}({parameters})"

    def __sklearn_clone__(self) -> Self:
        """Return a copy. See `sklearn.base.clone`."""
        return copy.copy(self)

    def set_score_request(self, *, sample_weight: Request) -> Self:
        """Set whether a search passes its weights on.

        Raises RuntimeError if metadata routing is not enabled, and ValueError if the name
        of the weights is no identifier.
        """
        if not sklearn.get_config()["enable_metadata_routing"]:
            raise RuntimeError(
                "Requests need sklearn.set_config(enable_metadata_routing=True). Without "
                "it, a search passes sample_weight to its fits and to this scorer."
            )
        self._make_request(sample_weight)
        self._sample_weight_request = sample_weight
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the request for weights, for scikit-learn's routers."""
        return self._make_request(self._sample_weight_request)

    def _make_request(self, sample_weight: Request) -> MetadataRequest:
        """Make scikit-learn's object for a request, which raises if it is not valid."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="sample_weight", alias=sample_weight)
        return request

    def _routing_repr(self) -> str:
        """Return the name of this object in messages of scikit-learn about metadata."""
        return repr(self)

    def _accept_sample_weight(self) -> bool:
        """Whether a search without metadata routing passes its weights on."""
        return True
