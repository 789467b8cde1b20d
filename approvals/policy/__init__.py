"""Who must agree: pure rules over rows that the caller has read under a lock.

Nothing in this package knows Django, the clock or the database.
"""
