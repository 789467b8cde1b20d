"""Tests of who uses a key."""
