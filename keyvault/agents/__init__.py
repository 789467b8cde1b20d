"""Agents: machine identities, the ways they prove who they are, and their short-lived tokens."""
