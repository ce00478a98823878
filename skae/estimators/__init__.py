"""The estimators: their parameters, their fit, and the methods of a fitted model."""
