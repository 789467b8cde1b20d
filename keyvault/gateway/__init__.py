"""The gateway: the read path of agents and services, a process of its own without Django."""
