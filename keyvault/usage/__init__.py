"""Who uses which key, where and how much: rollups, reports, and what goes beyond what was declared."""
