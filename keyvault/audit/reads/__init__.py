"""What agents read through the gateways: each read as a row, each segment as one event."""
