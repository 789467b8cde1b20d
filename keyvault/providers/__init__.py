"""Plug-ins for whoever issues a credential: pure, no framework."""
