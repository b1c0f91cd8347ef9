"""Cells: what conductance they take, and what becomes of it. One law a file; `cell.py` puts them together."""
