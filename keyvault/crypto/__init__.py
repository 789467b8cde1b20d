"""Secrets, envelopes, key-encryption keys, digests and tokens: pure, and the only user of `cryptography`."""
