"""The suites of Nameplate: workloads, and the points of their axes to measure. Found by entry point."""
