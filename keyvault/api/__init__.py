"""The automation API, `/api/v1`: metadata and requests for programs. Nobody decides here (R20)."""
