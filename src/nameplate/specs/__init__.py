"""Ratings of parts: what a device is sold as, and what a CPU core can do a cycle.

Nothing is imported here, so that a command that needs no rating pays for none (`nameplate.specs.cpu` loads
pydantic).
"""
