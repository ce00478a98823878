"""Time the matrix products of an epoch alone, a lower bound for any training of the model.

Each linear layer has a forward product and a product for the gradient of its weights. All
layers but the first have a product for the gradient of their input. The products are
written into allocated buffers by torch.mm. They are also taken by oneDNN if torch has it,
because skae uses oneDNN for large products on some processors. The linear path of skae's
models adds no product: its weights are part of the encoder's first and of the decoder's
last layer.
"""

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from worker import Plan, answer, read_request

# Seconds to spend on one figure; at least three calls are timed.
_SECONDS = 1.0
Product = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # left, right, out


def layers(sizes: list[int], *, extra_in: int = 0, extra_out: int = 0) -> list[list[int]]:
    """Return the shapes of weights; the last has extra inputs, the first extra outputs."""
    shapes = [list(pair) for pair in pairwise(sizes)]
    shapes[-1][0] += extra_in
    shapes[0][1] += extra_out
    return shapes


def step_products(plan: Plan, d: int, *, heads: int, linear_path: bool) -> list[Product]:
    """Return the products of one step."""
    n, k = plan.batch, plan.k
    codes = heads * k
    shapes = layers([d, *plan.hidden, codes], extra_out=codes if linear_path else 0)
    shapes += layers([k, *reversed(plan.hidden), d], extra_in=k if linear_path else 0)
    products = []
    for i, (n_in, n_out) in enumerate(shapes):
        x, w, g = torch.randn(n, n_in), torch.randn(n_in, n_out), torch.randn(n, n_out)
        products += [(x, w, torch.empty(n, n_out)), (x.T, g, torch.empty(n_in, n_out))]
        if i > 0:
            products.append((g, w.T, torch.empty(n, n_in)))
    return products


def seconds_per_call(run: Callable[[], object]) -> float:
    """Return the median seconds of a call, after a first call that does not count."""
    run()
    seconds, end = [], time.perf_counter() + _SECONDS
    while len(seconds) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def on_best_threads(run: Callable[[], object], n_threads: int) -> float:
    """Return the seconds of a call with all threads or with one, whichever is faster."""
    seconds = []
    for n in sorted({1, n_threads}):
        torch.set_num_threads(n)
        with torch.inference_mode():
            seconds.append(seconds_per_call(run))
    return min(seconds)


def products_time(products: list[Product], n_threads: int) -> float:
    """Return the seconds of the products by torch.mm."""

    def run() -> None:
        for left, right, out in products:
            torch.mm(left, right, out=out)

    return on_best_threads(run, n_threads)


def onednn_time(products: list[Product], n_threads: int) -> float:
    """Return the seconds of the products by oneDNN, which allocates its outputs."""

    def run() -> None:
        for left, right, _ in products:
            torch.ops.mkldnn._linear_pointwise(left, right.T, None, "none", [], "")

    return on_best_threads(run, n_threads)


if __name__ == "__main__":
    request, plan = read_request()
    n, d = np.load(request["train"], mmap_mode="r").shape
    values = {}
    for name, heads, linear_path in [
        ("vae", 2, False),
        ("vae, linear path", 2, True),
        ("ae", 1, False),
        ("ae, linear path", 1, True),
    ]:
        products = step_products(plan, d, heads=heads, linear_path=linear_path)
        values[name] = products_time(products, request["threads"]) * n / plan.batch
        if not linear_path and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            seconds = onednn_time(products, request["threads"]) * n / plan.batch
            values[f"{name}, by oneDNN"] = seconds
    answer(**values)
