"""Families of checkpoints: a file for each, over shared parts."""
