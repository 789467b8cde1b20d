"""Versions and sealed values: the only package that opens an envelope."""
