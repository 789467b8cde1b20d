"""A password hasher for tests."""

from django.contrib.auth.hashers import Argon2PasswordHasher


class FastArgon2(Argon2PasswordHasher):
    """Argon2 with the smallest cost that the library takes."""

    time_cost = 1
    memory_cost = 8
    parallelism = 1
