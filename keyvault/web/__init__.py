"""Browser pages of the console."""
