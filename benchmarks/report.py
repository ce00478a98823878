"""Write result pages with the date, the machine and the versions."""

import os
import platform
import re
from datetime import date
from pathlib import Path

import numpy
import sklearn
import torch

import skae

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def write(name, title, command, text, header, rows):
    """Write a list-table to docs/results and print it."""
    lines = _head(title, command, text, f"{torch.get_num_threads()} thread(s)")
    _save(RESULTS / f"{name}.rst", [*lines, *_table(header, rows)])


def write_page(path, title, command, text, tables):
    """Write several tables and print them; a table is (heading, note, header, rows)."""
    lines = _head(title, command, text, _machine())
    for heading, note, header, rows in tables:
        lines += [*_heading(heading, "-"), note.strip(), "", *_table(header, rows)]
    _save(path, lines)


def update_page(source, path, command, tables):
    """Write a page with the text of `source` and new tables, and print it.

    Each section of `source` ends with a table; `tables` maps all headings, in their order,
    to the header and the rows of the new one.
    """
    # A section begins with a line that a line of dashes follows.
    head, *sections = re.split(r"^(?=.+\n-+\n)", source.read_text(), flags=re.MULTILINE)
    headings = [section.partition("\n")[0] for section in sections]
    if headings != list(tables):
        raise ValueError(f"{source} has the sections {headings}, not {list(tables)}")
    lines = [head.partition("Made by ``")[0].strip(), "", _made_by(command, _machine()), ""]
    for section, table in zip(sections, tables.values(), strict=True):
        note = section.partition(".. list-table::")[0]
        lines += [note.strip(), "", *_table(*table)]
    _save(path, lines)


def _heading(title, underline):
    """Return the lines of a heading."""
    return [title, underline * len(title), ""]


def _head(title, command, text, machine):
    """Return the lines before the tables: title, text and how they were made."""
    return [*_heading(title, "="), text.strip(), "", _made_by(command, machine), ""]


def _made_by(command, machine):
    """Return the line with command, date, versions and machine."""
    return f"Made by ``{command}`` on {date.today().isoformat()}: {versions(machine)}."


def versions(machine=None):
    """Return the versions and the machine, by default its processor and cores."""
    return (
        f"skae {skae.__version__}, scikit-learn {sklearn.__version__}, "
        f"torch {torch.__version__}, numpy {numpy.__version__}, "
        f"Python {platform.python_version()}, {platform.machine()} CPU, "
        f"{machine or _machine()}"
    )


def _machine():
    """Return the name of the processor and the number of cores."""
    return f"{_processor()}, {os.cpu_count()} core(s)"


def _processor():
    """Return the name of the processor, which only Linux provides."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "model unknown"


def _table(header, rows):
    """Return the lines of a list-table."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [header, *rows]:
        lines += [
            f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(map(str, row))
        ]
    return [*lines, ""]


def _save(path, lines):
    """Write the lines to a file and print them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines).rstrip() + "\n"
    path.write_text(text)
    print(text)
