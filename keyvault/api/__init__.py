"""The automation API: what agents, services, CI jobs and command lines call."""
