"""Counters that tell what went on around a measurement."""
