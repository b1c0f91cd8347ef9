"""DRAM that computes: its banks, the timing and energy of its commands, and the kernels that run products on it."""
