"""One file for each act that needs approval: how it is asked, described and executed."""
