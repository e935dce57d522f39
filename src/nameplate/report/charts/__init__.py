"""Charts: what each shows, as plain values, and how a page, an SVG file and a terminal draw it."""
