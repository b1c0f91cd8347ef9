"""Quantisers of models, and the transforms that make a model easier, or harder, to quantise."""
