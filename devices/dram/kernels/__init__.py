"""Kernels: how products run on a DRAM. One way a file; `kernel.py` beside this folder is what they share."""
