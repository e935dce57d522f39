"""Suites shipped with Nameplate: which workloads, at which points of their axes. Found by entry point."""
