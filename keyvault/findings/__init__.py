"""Things a person should look at: what was seen, where, and whether it is closed."""
