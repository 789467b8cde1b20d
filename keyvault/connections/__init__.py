"""Configured accounts at providers, issuing and revoking there, reconciliation."""
