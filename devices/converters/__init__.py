"""Converters between the digital and the analog side, and what makes real ones differ from ideal ones."""
