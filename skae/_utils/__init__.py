"""Threads, matrix products, random numbers and devices; nothing here knows a model."""
