"""Axis 5: how a loss is minimised. Nothing here knows a model or a likelihood."""

from skae.training.adam import Adam
from skae.training.annealing import Annealing
from skae.training.data import Batches, TrainingSet, distinct_rows
from skae.training.loop import Step, train
from skae.training.parameters import FlatParameters
from skae.training.stopping import Plateau

__all__ = [
    "Adam",
    "Annealing",
    "Batches",
    "FlatParameters",
    "Plateau",
    "Step",
    "TrainingSet",
    "distinct_rows",
    "train",
]
