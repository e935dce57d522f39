"""Runs on disk: one folder each, a manifest and its records, readable however the process ended."""
