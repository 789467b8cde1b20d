"""Tell every gateway that a right changed, and know when each of them has heard."""
