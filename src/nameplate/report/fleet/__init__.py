"""Screens about fleets: costs, plans, goodput, the audit of claims, and the fleets that a run prices."""
