"""Self-tests: devices with a known truth, a bare loop beside the engine, and the process started anew."""
