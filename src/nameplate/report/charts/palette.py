"""The colours of page and charts: CSS variables, each with a value for the light and for the dark scheme.

Tests hold that colour-blind readers can tell the series apart, and that text has a contrast of at least 4.5
(WCAG AA) on every background.
"""

from __future__ import annotations

# name: (light, dark)
COLOURS: dict[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#14171c"),
    "panel": ("#f6f7f9", "#1c2128"),
    "ink": ("#1c2128", "#e6e9ee"),
    "muted": ("#57606c", "#a3adba"),
    "line": ("#d5dae1", "#3a424d"),
    "accent": ("#1f5f93", "#7db8ea"),
    "good": ("#1d6b3f", "#6fce98"),
    "doubt": ("#8a5a00", "#e8b75a"),
    "bad": ("#a8323a", "#f2949a"),
    "series-1": ("#2b6ca3", "#5fa3d9"),
    "series-2": ("#b8621b", "#e2944f"),
    "series-3": ("#3a8a66", "#63bd94"),
    "series-4": ("#4a2c8f", "#7a5fa8"),
    "series-5": ("#801844", "#d0386e"),
    "series-6": ("#66707d", "#9aa5b3"),
}


def variable(name: str) -> str:
    """Return a colour as its variable, with the light value as the fallback."""
    return f"var(--{name}, {COLOURS[name][0]})"


INK, MUTED, LINE, PAPER = (variable(name) for name in ("ink", "muted", "line", "paper"))
SERIES = tuple(variable(f"series-{n}") for n in range(1, 7))
LOSS, GAIN = variable("series-2"), variable("series-3")


def style_sheet() -> str:
    """Return the CSS of the variables: dark on a screen whose system asks for it, light in print."""
    light, dark = (
        "".join(f"--{name}:{pair[scheme]};" for name, pair in COLOURS.items()) for scheme in (0, 1)
    )
    return (
        f":root{{color-scheme:light dark;{light}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    )
