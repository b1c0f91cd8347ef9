"""Evaluation layer by layer: of a model that is larger than memory, on many chips, to be interrupted at any time."""
