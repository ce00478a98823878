"""Tables with the date, the machine and the versions that they come from."""

import platform
from datetime import date
from pathlib import Path

import numpy
import sklearn
import torch

import skae

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def write(name, title, command, text, header, rows):
    """Write a list-table to docs/results and print it."""
    versions = (
        f"skae {skae.__version__}, scikit-learn {sklearn.__version__}, "
        f"torch {torch.__version__}, numpy {numpy.__version__}, "
        f"Python {platform.python_version()}, {platform.machine()} CPU, "
        f"{torch.get_num_threads()} thread(s)"
    )
    lines = [
        title,
        "=" * len(title),
        "",
        text.strip(),
        "",
        f"Made by ``{command}`` on {date.today().isoformat()}: {versions}.",
        "",
        ".. list-table::",
        "   :header-rows: 1",
        "",
    ]
    for row in [header, *rows]:
        lines += [
            f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(map(str, row))
        ]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.rst"
    path.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
