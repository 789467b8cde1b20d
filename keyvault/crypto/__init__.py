"""Everything that touches key material. Pure: knows no framework and no database.

Random numbers come from the operating system; algorithms are AES-256-GCM,
HMAC-SHA-256, HKDF-SHA-256 and Ed25519, all from pyca/cryptography.
"""
