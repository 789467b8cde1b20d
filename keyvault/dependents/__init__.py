"""Dependents: who uses a key, how they get a new version, and how they say that they have it."""
