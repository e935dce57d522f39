"""Which point of a grid is fastest, found by measuring a small part of it; nothing here knows of devices."""
