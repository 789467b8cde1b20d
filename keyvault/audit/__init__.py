"""The ledger that proves who did what."""
