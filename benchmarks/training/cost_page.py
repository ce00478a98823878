"""Write the page of the costs besides epochs: imports, first fit, methods, memory."""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
from systems import AUTOENCODERS, OURS, VAES, System, failure, in_turns, shown
from workloads import WORKLOADS, draw, make, save

_COSTS = System("skae", "ours_costs", variant="vae optimal")
_IMPORTS = ["import sklearn.base", "import skae", "import torch"]
_IMPORTS.append("from skae import VariationalAutoencoder")
_TEXT = """
With at most {threads} thread(s), on a CPU: medians of {repeats} run(s), each in a new
process, and the range in brackets. The models are VariationalAutoencoder in float32, with
the optimal scale and the learning rate and batches of :doc:`training`.
"""


def page(folder, args):
    """Return title, text and tables of the page."""
    repeats, threads = args.repeats, args.threads
    workloads = {name: WORKLOADS[name] for name in args.workloads}
    data = {name: make(workload, args.quick) for name, workload in workloads.items()}
    files = {name: save(folder, name, X) for name, X in data.items()}

    def costs(task, request):
        """Return the values of a task by name, one per repetition."""
        answers = in_turns([_COSTS], repeats, threads, {**request, "task": task})[_COSTS]
        if reason := failure(answers):
            raise RuntimeError(f"{task}: {reason}")
        return {name: [answer[name] for answer in answers] for name in answers[0]}

    tables = [_imports(repeats), _first_fits(folder, repeats, threads)]

    rows = []
    for name, workload in workloads.items():
        epochs = 20 if name == "S" else 2
        request = {**workload.request(), "train": files[name], "epochs": epochs}
        seconds = costs("dtypes", request)
        ratio = median(seconds["float64"]) / median(seconds["float32"])
        figures = shown(seconds["float32"]), shown(seconds["float64"])
        rows.append([workload.describe(data[name]), epochs, *figures, f"{ratio:.2f}"])
    note = "Seconds of a whole fit of the same numbers in either dtype."
    header = ["data", "epochs", "float32", "float64", "ratio"]
    tables.append(("float64 input", note, header, rows))

    rows = []
    for name in [name for name in ("S", "M") if name in workloads]:
        request = {**workloads[name].request(), "train": files[name]}
        seconds = costs("throughput", request)
        floor = median(seconds["floor"])
        for method in ("transform", "score"):
            own = median(seconds[method])
            speed = f"{len(data[name]) / own:,.0f}"
            rows.append([f"{name}: {method}", speed, shown(seconds[method], 1e-3)])
            rows[-1] += [shown(seconds["floor"], 1e-3), f"{own / floor:.2f}"]
    note = """
All rows of a workload in one call, in float32. The floor is the time of the encoder's
matrix products up to the mean. It is taken in blocks of 256, 1024 or 4096 rows, with one
thread or with all, whichever is fastest. A score also uses the decoder, several times.
"""
    header = ["call", "rows per second", "ms", "floor, ms", "over the floor"]
    tables.append(("transform and score", note, header, rows))

    if "M" in workloads:
        tables.append(_memory(folder, workloads["M"], data["M"], costs))
    tables.append(_growth(folder, args, costs))
    text = _TEXT.format(threads=threads, repeats=repeats)
    return "What a fit costs besides its epochs", text, tables


def _imports(repeats):
    """Return the table of import times."""
    code = "import json, time\ntimes = [time.perf_counter()]\n"
    code += "".join(f"{line}\ntimes.append(time.perf_counter())\n" for line in _IMPORTS)
    code += "print(json.dumps([b - a for a, b in zip(times, times[1:])]))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    runs = [
        json.loads(subprocess.check_output([sys.executable, "-c", code], env=environment))
        for _ in range(repeats + 1)
    ][1:]  # the first run may read files that are not in the file cache
    rows = [[f"``{_IMPORTS[i]}``", shown(s)] for i, s in enumerate(zip(*runs, strict=True))]
    note = "Seconds of each line; the lines run in this order in a new process."
    return "Imports", note, ["line", "seconds"], rows


def _first_fits(folder, repeats, threads):
    """Return the table of first fits of a process."""
    X = np.random.default_rng(0).standard_normal((100, 5), dtype=np.float32)
    request = {"task": "first", "train": save(folder, "f", X)}
    request |= {"hidden": [64], "k": 2, "batch": 32}
    systems = [s for s in [*VAES, *AUTOENCODERS] if s not in (OURS["ae optimal"],)]
    lengths = {1: {}, 100: {}}
    for epochs in lengths:
        lengths[epochs] = in_turns(systems, repeats, threads, {**request, "epochs": epochs})
    rows = []
    for system in systems:
        kind = "deterministic" if system in AUTOENCODERS else "variational"
        cells = [
            failure(answers[system]) or shown([a["seconds"] for a in answers[system]])
            for answers in lengths.values()
        ]
        rows.append([f"{kind}: {system.name}", *cells])
    note = """
Seconds of the first fit of a process, on 100 x 5, after all imports, torch included. The
models have a hidden layer (64,), 2 components and batches of 32.
"""
    return "The first fit", note, ["system", "1 epoch", "100 epochs"], rows


def _memory(folder, workload, X, costs):
    """Return the table of peak memory."""
    train = save(folder, "memmap", X.astype(np.float64))
    peaks = costs("memory", {**workload.request(), "train": train})
    size = peaks.pop("X")[0]
    rows = [
        [call, shown(values, 2**20), f"{100 * median(values) / size:.1f} %"]
        for call, values in peaks.items()
    ]
    note = f"""
Highest private memory (RssAnon, sampled each millisecond) during a call, minus the private
memory before the call. X is a float64 memmap of {X.shape[0]:,} x {X.shape[1]},
{size / 2**20:.0f} MiB. A fit of one epoch and a call of both methods on a few rows come
first, because they load code that stays loaded.
"""
    return "Memory", note, ["call", "peak, MiB", "of X"], rows


def _growth(folder, args, costs):
    """Return the table of fit times as one quantity grows."""
    n, d, k, epochs = (2000 if args.quick else 20_000), 16, 4, 5
    request = {"train": save(folder, "growth", draw(4 * n, 4 * d))}
    request |= {"hidden": [64], "k": k, "batch": 128, "epochs": epochs}
    rows = []
    for name, runs in costs("growth", request).items():
        by_size = list(zip(*runs, strict=True))
        once = median(by_size[0])
        ratios = [f"{median(seconds) / once:.2f}" for seconds in by_size[1:]]
        rows.append([name, *(shown(seconds) for seconds in by_size), *ratios])
    note = f"""
Seconds of a whole fit as one quantity is doubled twice, and the ratio to the first fit. The
first fit has {n:,} x {d} data, {k} components, a hidden layer (64,) and {epochs} epochs of
batches of 128.
"""
    header = [
        "what grows",
        "once",
        "twice",
        "four times",
        "twice, ratio",
        "four times, ratio",
    ]
    return "Growth", note, header, rows
