"""The mathematics of timed batches: pure functions, without a device or a file."""
