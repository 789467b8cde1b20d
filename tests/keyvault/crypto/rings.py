"""Keyrings for tests, with budgets that count in memory."""

import secrets

from keyvault.crypto.keyring import Exhausted, Keyring, LocalKek


class Counting:
    """A budget of so many wraps."""

    def __init__(self, limit=1 << 30):
        self.limit, self.spent = limit, 0

    def spend(self, _kek_id):
        if self.spent >= self.limit:
            raise Exhausted("spent")
        self.spent += 1


def ring(*raws, limit=1 << 30):
    raws = raws or (secrets.token_bytes(32),)
    return Keyring([LocalKek(raw) for raw in raws], budget=Counting(limit))
