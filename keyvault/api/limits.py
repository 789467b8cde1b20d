"""What callers of the API may do in a while: the sizes of their buckets."""

from __future__ import annotations

from keyvault.api.problems import Problem
from keyvault.buckets import Buckets, Rate, buckets, take

__all__ = ["Buckets", "Rate", "buckets", "charge", "take"]

# One source may be many programs behind one address; one principal is one program.
SOURCE = Rate(per_s=100, burst=1_000)
PRINCIPAL = Rate(per_s=20, burst=200)
# What people will have to read is scarcer.
ASKING = Rate(per_s=0.2, burst=30)
# Batches of up to a thousand events, which nobody reads one by one.
REPORTING = Rate(per_s=5, burst=50)
# Each is a call to a provider, which has limits of its own.
LENDING = Rate(per_s=1, burst=60)
# To return is never kept from whoever took: it has a bucket of its own, and a larger one.
RETURNING = Rate(per_s=2, burst=120)
FAILURES = Rate(per_s=0.5, burst=60)


# Operations that bring many small things at once, by their operationId.
BATCHES = frozenset({"reportUsage"})
# Operations about credentials for one run.
LEASES = frozenset({"takeLease", "renewLease"})
# Operations that end one, by a call to the provider as well.
RETURNS = frozenset({"returnLease"})
# Operations that bring values. No digest of such a body is kept, so that it can be repeated
# only because doing it twice changes nothing.
VALUES = frozenset({"importKeys"})
# Operations that ask for an act although they are no POST; people have to read these as well.
ASKS = frozenset({"replaceLabels"})
# Operations that ask for one thing about many others, which they list.
LISTS = frozenset({"changeKeys", "startRotations"})


def charge(name: str, whose: str, rate: Rate, *, cost: int = 1) -> None:
    """Take one call from a bucket. Raises Problem with `Retry-After` when it is empty."""
    wait_s = take(name, whose, rate, cost=cost)
    if wait_s:
        raise Problem("too-many-requests", headers={"Retry-After": str(wait_s)})
