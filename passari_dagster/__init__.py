"""Preservation of museum objects in the national Digital Preservation Service, as a Dagster project."""

__version__ = "0.1.0"
