"""Keys, environments, owners and grants: metadata only, never secret bytes."""
