"""Destination plug-ins: where a version of a key is pushed."""
