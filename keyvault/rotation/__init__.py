"""Rotation: move a key to a new version, and everybody who uses it with it, with no downtime."""
