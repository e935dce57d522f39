"""Runs on disk: one folder each, a manifest and its records, readable after any kind of death."""
