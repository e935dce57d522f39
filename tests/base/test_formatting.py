"""One rule for each kind of number, at its edges: unknown, zero, negative, rounded up, tiny and huge."""

import math
import re
from pathlib import Path

import pytest

import nameplate
from nameplate.base import formatting
from nameplate.base.formatting import (
    change,
    count,
    duration,
    figure,
    interval,
    millions,
    money,
    percent,
    percent_with_half_width,
    ratio,
    rmb,
    scientific,
    stated,
    with_half_width,
)
from nameplate.base.language import use_language
from nameplate.stats.interval import Interval

HARNESS = Path(nameplate.__file__).parent
ONE_NUMBER = (change, count, duration, figure, millions, money, percent, ratio, rmb, scientific, stated)


@pytest.mark.parametrize(
    ("form", "cases"),
    [
        (
            figure,
            {0: "0", 0.145: "0.145", 2.31: "2.31", 9.99: "9.99", 9.995: "9.99", 9.999: "10.0", 99.95: "100"}
            | {788: "788", 999.5: "1,000", 5928.4: "5,928", 1e12: "1,000,000,000,000", 1e-9: "0.00000000100"}
            | {-0.1449: "-0.145", -9.999: "-10.0", 0.00219: "0.00219"},
        ),
        (
            stated,
            {
                0: "0",
                0.65: "0.65",
                1: "1",
                989.4: "989.4",
                950_000: "950,000",
                0.1 + 0.2: "0.3",
                1e-9: "0.000000001",
            }
            | {1e12: "1,000,000,000,000", -2.5: "-2.5", 123_456.789: "123,456.79", 10.0: "10", 100: "100"},
        ),
        (
            count,
            {
                0: "0",
                1: "1",
                999.6: "1,000",
                49_925: "49,925",
                -3: "-3",
                -0.2: "0",
                1e12: "1,000,000,000,000",
            },
        ),
        (ratio, {0: "0", 0.6258: "0.626", 0.9996: "1.000", 1.42: "1.420", -0.5: "-0.500", 1e-9: "0.000"}),
        (
            percent,
            {
                0: "0%",
                0.862: "86.2%",
                1: "100.0%",
                0.0045: "0.45%",
                0.00994: "0.99%",
                0.00996: "1.0%",
                0.0000499: "<0.01%",
                0.00005: "0.01%",
            }
            | {-1e-9: "0.00%", -0.312: "-31.2%", 0.9996: "100.0%", 12.5: "1,250.0%"},
        ),
        (
            change,
            {0: "0%", 0.031: "+3.1%", -0.406: "-40.6%", 0.0002: "+0.02%", 1e-9: "0.00%", -1e-9: "0.00%"}
            | {math.inf: "∞", -1: "-100.0%"},
        ),
        (
            duration,
            {0: "0 s", 0.8: "0.8 s", 0.25: "0.25 s", 1: "1.0 s", 9.94: "9.9 s", 9.96: "10 s", 10: "10 s"}
            | {
                0.94: "0.94 s",
                0.95: "0.95 s",
                0.96: "1.0 s",
                0.0004: "400 µs",
                0.0994: "99 ms",
                0.0996: "0.1 s",
            }
            | {59.4: "59 s", 59.6: "1.0 min", 60: "1.0 min", 90: "1.5 min", 600: "10 min", 3570: "1.0 h"}
            | {3_600: "1.0 h", 5_400: "1.5 h", 36_000: "10 h", 47.4 * 3_600: "47 h", 47.6 * 3_600: "2.0 days"}
            | {86_400: "24 h", 172_800: "2.0 days", 12.5 * 86_400: "12 days", 0.05: "50 ms", 5e-6: "5.0 µs"}
            | {-5_400: "-1.5 h", 1e12: "11,574,074 days", 1e-9: "0.001 µs"},
        ),
        (
            money,
            {0: "0", 0.65: "0.650", 583: "583", 65_312: "65,300", 950_000: "950,000", 999_499: "999,000"}
            | {999_500: "1.00 M", 7.5e6: "7.50 M", 371.09375e6: "371 M", 5.928e9: "5,928 M", -2e6: "-2.00 M"}
            | {1e12: "1,000,000 M", 1e-9: "0.00000000100"},
        ),
        (millions, {0: "0", 5.928e9: "5,928", 65_312: "0.0653", 999.5e6: "1,000", -7.5e6: "-7.50"}),
        (
            rmb,
            {0: "RMB 0", 583.2: "RMB 583", 65_312: "RMB 65,300", 5.928e9: "RMB 5,928 M", -2e6: "RMB -2.00 M"},
        ),
        (
            scientific,
            {9.68e21: "9.68 × 10^21", 9.999e21: "1.00 × 10^22", 1e-9: "1.00 × 10^-9", 0: "0"},
        ),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_number_is_printed_by_the_rule_of_its_kind(form, cases):
    assert {value: form(value) for value in cases} == cases


@pytest.mark.parametrize("form", ONE_NUMBER, ids=lambda form: form.__name__)
def test_what_isnt_known_is_a_dash_and_nan_is_never_printed(form):
    assert form(None) == "–"
    with pytest.raises(ValueError, match="nan"):
        form(math.nan)


def test_both_halves_have_the_digits_of_the_value():
    assert with_half_width(Interval(0.145, 0.143, 0.147)) == "0.145 ± 0.002"
    assert with_half_width(Interval(0.145, 0.0, math.inf)) == "0.145 ± ∞"
    assert percent_with_half_width(Interval(0.862, 0.0, math.inf)) == "86.2% ± ∞"
    assert interval(ratio, 0.5, math.inf) == "0.500 … ∞"
    assert with_half_width(Interval(9.999, 9.9, 10.1)) == "10.0 ± 0.1"
    assert with_half_width(Interval(1234.5, 1200, 1300)) == "1,234 ± 50"
    assert with_half_width(Interval(0, -1, 1)) == "0 ± 1"
    assert percent_with_half_width(Interval(0.862, 0.854, 0.87)) == "86.2% ± 0.8"
    # A half that would read as none has a digit of its own.
    assert with_half_width(Interval(9.999, 9.98, 10.01)) == "10.0 ± 0.01"
    assert percent_with_half_width(Interval(0.432, 0.4318, 0.4322)) == "43.2% ± 0.02"
    assert with_half_width(Interval(1.0, 1.0, 1.0)) == "1.00 ± 0.00"
    # But at most two digits more than the value: a simulated device may hardly vary.
    assert percent_with_half_width(Interval(0.023, 0.0229998, 0.0230002)) == "2.3% ± <0.001"
    assert percent_with_half_width(Interval(0.023, 0.02299, 0.02301)) == "2.3% ± 0.001"
    assert percent_with_half_width(Interval(0.005, 0.004, 0.006)) == "0.50% ± 0.10"
    for form in (with_half_width, percent_with_half_width):
        assert form(None) == "–"


def test_an_interval_is_its_known_points():
    assert interval(ratio, 0.745, 0.807) == "0.745 … 0.807"
    assert interval(figure, 28.3, 29.6, 30.8) == "28.3 … 29.6 … 30.8"
    assert interval(money, 587e6, None, 658e6) == "587 M … 658 M"
    assert interval(percent, 0.5, 0.50001) == "50.0%"
    assert interval(percent, None, None) == "–"


def test_units_are_said_in_the_readers_language():
    with use_language("zh"):
        assert (duration(172_800), duration(5_400)) == ("2.0 天", "1.5 h")
        assert (money(5.928e9), rmb(5.928e9), rmb(65_312)) == ("5,928 百万", "5,928 百万元", "65,300 元")


def test_each_rule_stands_in_the_module_s_table():
    rows = re.findall(r"^\| (\w+) \|", formatting.__doc__, re.MULTILINE)
    known = {form.__name__ for form in (*ONE_NUMBER, interval)} - {"rmb"}
    assert set(rows) - {"kind"} == known


# A number that is formatted by hand: thousands separators, decimals, significant digits, per cent.
BY_HAND = re.compile(r"\{[^{}\n]*:[+,>]*(?:\.?\d*[gfe%]|,d?)\}|format\([^)\n]*\"[,.+\d]+[gfed%]\"|\"\{:[,.]")
# Columns of records and exports have formats of their own, and so have the templates of messages, whose
# English programs read in --json.
ELSEWHERE = (
    *("engine", "device", "specs", "telemetry", "compare", "store", "export"),
    *("run", "record"),
)
# How many lines of a file print numbers to be typed or read by programs, not a figure.
OTHERWISE = {
    # What an error expects, or got: the ends of an input, as one types them: 1e+12
    "base/model.py": 1,
    "base/toml.py": 1,
    "suite.py": 1,
    "fleet/catalogues.py": 4,
    "fleet/chains.py": 1,
    "fleet/plan.py": 2,
    "fleet/size.py": 1,
    "fleet/validation.py": 1,
    "fleet/goodput.py": 1,
    "fleet/ownership.py": 2,
    "fleet/site.py": 1,
    "fleet/work.py": 1,
    "twin/card.py": 1,
    "report/fleet/csv_text.py": 1,  # a cell of --csv
    "store/manifest.py": 2,  # the flags of a command
}


def test_no_screen_formats_a_number_by_hand():
    found = {}
    for path in sorted(HARNESS.rglob("*.py")):
        name = path.relative_to(HARNESS)
        if name.parts[0] in ELSEWHERE or name.name in ("formatting.py", "templates.py"):
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        by_hand = [f"{n}: {line.strip()}" for n, line in enumerate(lines, 1) if BY_HAND.search(line)]
        if len(by_hand) != OTHERWISE.get(name.as_posix(), 0):
            found[name.as_posix()] = by_hand
    assert found == {}
