"""Colours: text can be read, series are seen and told apart, also by the colour-blind and in print."""

import re
from itertools import combinations, pairwise

import numpy as np
import pytest

from nameplate.report.charts import vega
from nameplate.report.charts.data import Bar, Bars, Cell, Grid
from nameplate.report.charts.palette import COLOURS, SERIES, style_sheet


def light(colour):
    """Linear red, green and blue of `#rrggbb` (IEC 61966-2-1)."""
    values = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """The contrast of two colours by WCAG 2.2: from 1 to 21."""
    darker, lighter = sorted(float(np.dot((0.2126, 0.7152, 0.0722), light(each))) for each in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def colour(name, scheme):
    return COLOURS[name][("light", "dark").index(scheme)]


def test_the_formula_of_contrast_gives_the_standards_figures():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "panel"])
@pytest.mark.parametrize("name", ["ink", "muted", "accent", "good", "doubt", "bad"])
def test_text_is_readable_on_every_background(name, ground, scheme):
    assert contrast(colour(name, scheme), colour(ground, scheme)) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("number", range(1, 7))
def test_a_series_is_visible_on_the_page(number, scheme):
    assert contrast(colour(f"series-{number}", scheme), colour("paper", scheme)) >= 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_text_of_a_field_is_readable_on_the_darkest_shade(scheme):
    cell = Cell("a row", "a column", 0.5, "50%")
    grid = Grid("shapes", "a title", "what it shows.", ("a row",), ("a column",), (cell,), 1.0)
    share = vega.make_spec(grid)["layer"][0]["encoding"]["fillOpacity"]["scale"]["range"][1]
    over, under = (
        [int(colour(name, scheme)[at : at + 2], 16) for at in (1, 3, 5)] for name in ("series-1", "paper")
    )
    shade = "#" + "".join(
        f"{round(share * a + (1 - share) * b):02x}" for a, b in zip(over, under, strict=True)
    )
    assert contrast(colour("ink", scheme), shade) >= 4.5


# What those see who lack a kind of cone (Machado, Oliveira and Fernandes, IEEE TVCG 15(6), 2009, severity 1).
SIGHTS = {
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))


def lab(linear):
    """CIE 1976 L*a*b* of linear red, green and blue, under D65."""
    x, y, z = np.dot(TO_XYZ, np.clip(linear, 0, 1)) / (0.9505, 1.0, 1.089)
    x, y, z = (each ** (1 / 3) if each > 0.008856 else 7.787 * each + 16 / 116 for each in (x, y, z))
    return np.array((116 * y - 16, 500 * (x - y), 200 * (y - z)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("sight", SIGHTS)
def test_series_are_told_apart_by_the_colour_blind(sight, scheme):
    """10 of CIE 1976's differences is several times what a person just sees side by side."""
    seen = [lab(np.dot(SIGHTS[sight], light(colour(f"series-{n}", scheme)))) for n in range(1, 7)]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) >= 10


def test_print_is_light_whatever_the_screen_is():
    sheet = style_sheet()
    (dark,) = re.findall(r"@media ([^{]*)\{", sheet)
    assert dark == "screen and (prefers-color-scheme:dark)"
    before, after = sheet.split("@media")
    assert all(f"--{name}:{pair[0]};" in before for name, pair in COLOURS.items())
    assert all(f"--{name}:{pair[1]};" in after for name, pair in COLOURS.items())


def test_more_kinds_than_colours_reuse_colours():
    names = tuple(f"kind {n}" for n in range(len(SERIES) + 1))
    bars = tuple(Bar("a case", 0.5, kind=name) for name in names)
    chart = Bars("shared", "a title", "what it shows.", "of nominal", bars, names, side_by_side=True)
    scale = vega.make_spec(chart)["layer"][0]["encoding"]["color"]["scale"]
    assert scale["domain"] == list(names)
    assert scale["range"] == [*SERIES, SERIES[0]]
    assert all(one != other for one, other in pairwise(scale["range"]))
