"""The matrix products of an epoch alone: what no training of this model can go below.

For each linear layer the product forwards, the gradient of its weights, and, but for the
first, the gradient of its input, into buffers that are there already: by torch.mm, and by
oneDNN, where torch has it, which skae leaves large products to on some processors. Adding
the linear path of skae's models costs no product of its own: its weights stand beside those
of the first layer of the encoder, and of the last layer of the decoder.
"""

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from worker import Plan, answer, read_request

_SECONDS = 1.0  # to spend on one figure, or as long as three calls take
Product = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # left, right, out


def layers(sizes: list[int], *, extra_in: int = 0, extra_out: int = 0) -> list[list[int]]:
    """Shapes of the weights, the last one with more inputs, the first with more outputs."""
    shapes = [list(pair) for pair in pairwise(sizes)]
    shapes[-1][0] += extra_in
    shapes[0][1] += extra_out
    return shapes


def step_products(plan: Plan, d: int, *, heads: int, linear_path: bool) -> list[Product]:
    """The products of one step."""
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
    """The median of calls for about a second, after a first one."""
    run()
    seconds, end = [], time.perf_counter() + _SECONDS
    while len(seconds) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def on_best_threads(run: Callable[[], object], n_threads: int) -> float:
    """Seconds of a call with all threads or with one, whichever is faster."""
    seconds = []
    for n in sorted({1, n_threads}):
        torch.set_num_threads(n)
        with torch.inference_mode():
            seconds.append(seconds_per_call(run))
    return min(seconds)


def products_time(products: list[Product], n_threads: int) -> float:
    """Seconds of some products."""

    def run() -> None:
        for left, right, out in products:
            torch.mm(left, right, out=out)

    return on_best_threads(run, n_threads)


def onednn_time(products: list[Product], n_threads: int) -> float:
    """Seconds of the same products by oneDNN, in float32 and memory of their own."""

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
