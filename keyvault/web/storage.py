"""Serve static files under names that hold their own hash, module imports included."""

from __future__ import annotations

from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # No types.
    """Rewrite `import "./x.js"` too: a script must never load another version's neighbour."""

    support_js_module_import_aggregation = True
