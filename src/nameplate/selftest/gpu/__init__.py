"""The harness proven on a GPU of the user's own: what is looked at, and what it must be."""
