"""The measured workloads. Imports nothing of the harness; see `workload` for the contract they keep."""
