"""Ask, decide, run: approval workflows for a host application that this package knows nothing of."""
