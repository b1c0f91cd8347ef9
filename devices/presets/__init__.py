"""Preset devices: one TOML file each, every value with its unit, source and grade."""
