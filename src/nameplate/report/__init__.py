"""What a reader sees of a run: one view, and a renderer for each medium."""
