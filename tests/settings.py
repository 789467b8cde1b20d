"""Settings of the test suite: the product's own, with what only tests may relax."""

import os
import tempfile

os.environ.setdefault("KEYVAULT_SECRET_KEY", "tests-only-not-a-secret-0123456789abcdef")
os.environ.setdefault("KEYVAULT_BROKER_URL", "redis://localhost:1/0")
for _name in ("KEYVAULT_DATA_DIR", "KEYVAULT_KEYS_DIR"):
    if _name not in os.environ:
        os.environ[_name] = tempfile.mkdtemp(prefix="kv-tests-")

from keyvault.settings import *  # noqa: E402, F403

ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
# Argon2 at its real cost would be most of the suite's time; its parameters are checked elsewhere.
PASSWORD_HASHERS = ["tests.hashers.FastArgon2"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
