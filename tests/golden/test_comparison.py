"""The net can fail: a changed figure is caught and named, rounding and wording are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

SCREEN = """
Achieved, in TFLOPS
case                              achieved  median    efficiency  power       verdict
matmul bf16 1024x1024x1024   0.157 ± 0.015   0.165  82.1% ± 8.1   390 W  unstable
matmul fp32 512x512x512      1,635 ± 10          –       -2.8%    412 W  clean

Nominal is 0.191 TFLOPS in bf16; this device delivers 78% of it. RMB 950,000 a server, from 2024-10.
run 20261122T120000-standard-a800 by nameplate 0.1.0, an 8-card server, in 12.1 h (95 % interval).
"""


@pytest.fixture
def files(golden, tmp_path):
    """Golden files of this test's own: one, of a small document."""
    writing = replace(golden, folder=tmp_path / "files", renewing=True)
    writing.check("show/run", {"records": [{"case": "a", "tflops": 0.1}, {"case": "b", "tflops": None}]})
    return replace(writing, renewing=False)


def found(**changes):
    return {"records": [{"case": "a", "tflops": 0.1} | changes, {"case": "b", "tflops": None}]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tflops": 0.1001}, "$.records[0].tflops: was 0.1, is 0.1001"),
        ({"tflops": None}, "$.records[0].tflops: was 0.1, is null"),
        ({"case": "c"}, '$.records[0].case: was "a", is "c"'),
        ({"watts": 400}, "$.records[0].watts: wasn't there, is 400"),
        ({"case": 1}, '$.records[0].case: was "a", is 1'),
    ],
)
def test_a_change_is_named_with_file_place_values_and_what_to_do(files, changes, said):
    with pytest.raises(pytest.fail.Exception) as failure:
        files.check("show/run", found(**changes))
    text = str(failure.value)
    assert text.startswith(f"{files.folder}/show/run.json: 1 differences\n")
    assert said in text
    assert "CHANGELOG: .venv/bin/python -m pytest tests/golden --update-golden" in text


def test_a_missing_record_and_a_missing_key_are_differences(files):
    with pytest.raises(pytest.fail.Exception, match=r"\$\.records: had 2 entries, has 1"):
        files.check("show/run", {"records": found()["records"][:1]})
    with pytest.raises(pytest.fail.Exception, match=r"\$\.records: was \[.*\], is gone"):
        files.check("show/run", {})


def test_numbers_of_two_kinds_differ(files):
    files = replace(files, renewing=True)
    files.check("kinds", [1, 1.0, True])
    with pytest.raises(pytest.fail.Exception, match="3 differences"):
        replace(files, renewing=False).check("kinds", [1.0, True, 1])


def test_rounding_of_another_build_passes_and_renews_nothing(files):
    files.check("show/run", found(tflops=0.1 * (1 + 1e-12)))
    path = files.folder / "show" / "run.json"
    before = path.read_text(encoding="utf-8")
    replace(files, renewing=True).check("show/run", found(tflops=0.1 * (1 + 1e-12)))
    assert path.read_text(encoding="utf-8") == before


def test_renewing_takes_a_change(files):
    replace(files, renewing=True).check("show/run", found(tflops=0.2))
    files.check("show/run", found(tflops=0.2))


def test_a_file_that_is_not_there_says_how_to_write_it(files):
    with pytest.raises(
        pytest.fail.Exception, match=r"no golden file .*show/other\.json; write it: .*--update"
    ):
        files.check("show/other", {})


def test_files_are_listed_by_name(files):
    assert files.names() == {"show/run"}


def test_figures_of_a_screen_are_its_numbers_without_its_words_ids_and_dates(golden):
    assert golden.figures(SCREEN) == [
        ["0.157 ± 0.015 0.165 82.1% ± 8.1 390 W", "1,635 ± 10 – -2.8% 412 W"],
        ["0.191 TFLOPS 78% RMB 950,000", "12.1 h"],
    ]


def test_a_screen_in_other_words_has_the_same_figures(golden):
    words = {"achieved  median": "reached   middle", "delivers 78% of it": "gets 78%", "(95 % interval)": ""}
    said = SCREEN
    for old, new in words.items():
        assert old in said
        said = said.replace(old, new)
    assert golden.figures(said) == golden.figures(SCREEN)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.157", "0.158"),
        ("-2.8%", "+2.8%"),
        ("390 W", "390 kW"),
        ("RMB 950,000", "USD 950,000"),
        ("–", "0"),
        ("0.165", "–"),
        ("± 8.1", "± 8.2"),
        ("0.157 ± 0.015   0.165", "0.165   0.157 ± 0.015"),
    ],
)
def test_a_changed_figure_of_a_screen_is_another(golden, old, new):
    assert old in SCREEN
    assert golden.figures(SCREEN.replace(old, new)) != golden.figures(SCREEN)
