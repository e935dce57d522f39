"""Self-tests: simulated devices with a known truth, a bare loop, and restarts of the process."""
