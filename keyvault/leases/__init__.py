"""Leases: short-lived credentials that are minted for one run of an agent and ended after it."""
