"""The `keyvault` command: standard library and httpx only."""
