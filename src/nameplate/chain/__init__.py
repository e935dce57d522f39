"""The chain from nominal to delivered: derates as ratios of successive stages."""
