"""Constants of nature, exact in SI."""

BOLTZMANN = 1.380649e-23
"""J/K"""
ELECTRONVOLT = 1.602176634e-19
"""J"""
