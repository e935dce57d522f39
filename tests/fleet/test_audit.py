"""The audit: the article's claims against figures worked out by hand, the rules, what bad files are told."""

import json
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import pytest

from nameplate.base.errors import InputError
from nameplate.fleet.audit import AuditRow, audit, format_figure, frame, judge
from nameplate.fleet.claims import read_figure, read_shipped_claims, schema

ROOT = Path(__file__).parents[2]
TABLES = {
    *("a800-fp16", "eflops-unit", "eflops-cards", "eflops-servers", "server-price", "server-price-2023"),
    *("eflops-cost", "li-july", "li-august", "li-gain", "li-spend", "li-cards", "li-stock", "li-target"),
    *("xpeng-now", "xpeng-cards", "xpeng-target", "xpeng-spend", "huawei-before", "huawei-now", "nio-now"),
    *("nio-cards", "tesla-chips-2023", "tesla-h100", "tesla-eflops", "tesla-growth", "tesla-add"),
    *("tesla-after", "dojo-1", "dojo-target", "world-2023", "china-2024", "china-fp16", "four-share"),
    *("suppliers", "supplier-orders"),
    *("model-size", "model-hours", "model-refresh", "clip-length", "clips-min", "clips-good", "li-clips"),
    *("model-sizes", "model-sizes-next", "language-models", "language-clusters", "vehicles"),
    *("software-price", "entrance-ticket", "valuation"),
    *("xpeng-clips", "tesla-cars", "tesla-fleet-clips", "data-traffic", "tesla-miles", "li-owners", "market"),
}
BY_HAND = {  # stated, recomputed, unit, verdict
    "a800-fp16": (320, 312, "TFLOPS", "contradicted"),
    "a800-fp16/silicon": (320, 108 * 1410 * 2048 / 1e6, "TFLOPS", "contradicted"),
    "eflops-unit": (1e6, 1e6, "TFLOPS", "holds"),
    "eflops-cards": (3125, 3125, "cards", "holds"),
    "eflops-cards/datasheet": (3125, 3205.128205, "cards", "holds_rounded"),
    "eflops-servers": (390, 390.625, "servers", "holds_rounded"),
    "eflops-servers/whole": (390, 391, "servers", "holds_rounded"),
    "eflops-cost": (370e6, 371_093_750, "RMB", "holds"),
    "eflops-cost/whole": (370e6, 371_450_000, "RMB", "holds"),
    "eflops-cost/datasheet": (370e6, 380_608_974.36, "RMB", "holds_rounded"),
    "li-gain": (3, 2.99, "EFLOPS", "holds"),
    "li-spend": (1e9, 1_106_300_000, "RMB", "holds"),
    "li-cards": (16_800, 16_843.75, "cards", "holds"),
    "li-stock": (10_000, 16_843.75, "cards", "contradicted"),
    "li-stock/mix": (10_000, 10_000, "cards", "holds"),
    "li-stock/card": (539, 539, "TFLOPS", "holds"),
    "li-stock/h100-share": ((539 - 320) / (989 - 320), (539 - 320) / (989 - 320), "ratio", "holds"),
    "xpeng-cards": (7_800, 7_843.75, "cards", "holds"),
    "xpeng-spend": (3.7e9, 7.49 * 370e6, "RMB", "contradicted"),
    "xpeng-spend/whole": (3.7e9, 3.7e9, "RMB", "holds"),
    "nio-cards": (4_300, 4_375, "cards", "holds"),
    "tesla-eflops": (67.5, 66.7575, "EFLOPS", "holds_rounded"),
    "tesla-eflops/card": (1_000, 989, "TFLOPS", "holds_rounded"),
    "tesla-growth": (6, 6.75, "ratio", "holds"),
    "tesla-after": (88.5, 88.5, "EFLOPS", "holds"),
    "tesla-after/datasheet": (88.5, 87.5265, "EFLOPS", "holds_rounded"),
    "china-fp16": (492, 492, "EFLOPS", "holds"),
    "china-fp16/tensor": (492, 492, "EFLOPS", "holds"),
    "china-fp16/plain": (492, 16 * 246, "EFLOPS", "contradicted"),
    "four-share": (0.035, 16.8 / 492, "ratio", "holds_rounded"),
    "four-share/before": (0.035, 14.3 / 492, "ratio", "contradicted"),
    "four-share/plain": (0.035, 16.8 / (16 * 246), "ratio", "contradicted"),
    "model-hours/good": (10_000, 41_666.6667, "hours", "holds"),
    "tesla-fleet-clips": (1e6, 1e6, "clips a day", "holds"),
}
MINE = """
schema = 1
source = "counted"
[[claim]]
id = "cards"
words = "cards"
figure = 100
unit = "cards"
cannot_check = "an asset list"
[[claim]]
id = "servers"
words = "servers"
figure = 13
unit = "servers"
formula = "ceil(cards / 8)"
[[claim]]
id = "speed"
words = "EFLOPS"
figure = 0.03
unit = "EFLOPS"
qualifier = "over"
formula = 'cards * part("nvidia-a800-sxm4-80gb").fp16.datasheet / 1e6'
"""


@pytest.fixture
def audited(tmp_path):
    """Audit a text of claims; the rows by id."""

    def run(text):
        (tmp_path / "mine.toml").write_text(text)
        return {row.id: row for row in audit(tmp_path / "mine.toml")}

    return run


@pytest.fixture(scope="module")
def article():
    return {row.id: row for row in audit()}


def edited(claim, old, new):
    """The shipped claims with one replacement inside one claim."""
    start = read_shipped_claims().index(f'id = "{claim}"')
    head, block = read_shipped_claims()[:start], read_shipped_claims()[start:]
    assert block.index(old) < block.find("[[claim]]") % len(block), f"{old!r} isn't in {claim}"
    return head + block.replace(old, new, 1)


def test_every_claim_of_both_tables_is_audited_with_its_source(article):
    claims = {row.claim for row in article.values() if not row.is_reading}
    assert claims - TABLES == {"li-owners-share"}  # two figures in one line of the table
    assert claims >= TABLES
    assert all(row.words and row.why and "36Kr" in row.source for row in article.values())


def test_what_can_be_checked_is_what_was_worked_out_by_hand(article):
    assert {id_ for id_, row in article.items() if row.verdict != "cannot_check"} == BY_HAND.keys()


@pytest.mark.parametrize("id_", BY_HAND)
def test_a_claim_is_recomputed_as_by_hand(article, id_):
    stated, recomputed, unit, verdict = BY_HAND[id_]
    row = article[id_]
    assert (row.stated, row.recomputed) == (pytest.approx(stated), pytest.approx(recomputed))
    assert (row.unit, row.verdict) == (unit, verdict)
    assert row.relative_error == pytest.approx(stated / recomputed - 1, rel=1e-6, abs=1e-12)


def test_what_cannot_be_checked_says_what_is_missing(article):
    for id_ in ("li-july", "suppliers", "supplier-orders", "market", "world-2023"):
        row = article[id_]
        assert (row.verdict, row.recomputed, row.relative_error, row.formula) == ("cannot_check", *[None] * 3)
    assert "quotation" in article["server-price"].why
    assert (article["market"].stated, article["market"].unit) == (None, None)
    assert (article["server-price"].stated, article["clip-length"].stated) == (950_000, None)
    assert (article["clip-length"].stated_low, article["clip-length"].stated_high) == (15, 30)


def test_a_lower_bound_contradicts_no_other_lower_bound(article):
    row = article["model-hours"]
    assert (row.stated, row.recomputed) == (10_000, pytest.approx(8_333.3333))
    assert (row.verdict, row.relative_error) == ("cannot_check", None)
    assert row.why.endswith("this is only a lower bound, which doesn't contradict what is stated")
    assert "one data set" in row.note


@pytest.mark.parametrize(
    ("formula", "qualifier", "figure", "verdict", "why"),
    [
        ("least * 2", "over", 100, "cannot_check", "only a lower bound"),
        ("least * 2", "over", 20, "holds", "at least"),
        ("least * 2", "exact", 100, "cannot_check", "only a lower bound"),
        ("least * 2", "exact", 10, "contradicted", "at least"),
        ("100 / least", "exact", 5, "cannot_check", "only an upper bound"),
        ("100 / least", "exact", 50, "contradicted", "at least"),
        ("100 / least", "over", 50, "contradicted", "at least"),
        ("least * 2 / other", "exact", 50, "cannot_check", "more or less"),
        ("100 / (least - 20)", "exact", 50, "cannot_check", "more or less"),
        ("least - least + 7", "exact", 50, "contradicted", "at least"),  # the bound doesn't matter
    ],
)
def test_what_builds_on_a_lower_bound_is_a_bound(audited, formula, qualifier, figure, verdict, why):
    bound = '[[claim]]\nid = "{}"\nwords = "x"\nfigure = {}\nunit = "ratio"\nqualifier = "over"\n'
    bounds = "".join(bound.format(*each) + 'cannot_check = "x"\n' for each in (("least", 10), ("other", 3)))
    row = audited(
        f'schema = 1\nsource = "counted"\n{bounds}'
        f'[[claim]]\nid = "it"\nwords = "x"\nfigure = {figure}\nunit = "ratio"\nqualifier = "{qualifier}"\n'
        f'formula = "{formula}"\nwhy = "at least"\n'
    )["it"]
    assert (row.verdict, why in row.why) == (verdict, True)


def test_a_reading_without_a_formula_says_what_follows_and_what_is_missing(article):
    as_fp16, as_fp32 = article["world-2023/tesla-fp16"], article["world-2023/tesla-fp32"]
    assert as_fp16.stated == pytest.approx(67.5 / 910)
    assert as_fp32.stated == pytest.approx(67.5 / (16 * 910))
    for row in (as_fp16, as_fp32):
        assert (row.verdict, row.recomputed, row.formula, row.unit) == ("cannot_check", None, None, "ratio")
        assert "its precision isn't stated" in row.why
        assert row.builds_on == ("tesla-eflops", "world-2023")


def test_a_share_of_two_kinds_of_card_is_computed(article):
    assert "= 0.32735; " in article["li-stock/h100-share"].why
    assert "10,000 = 539; " in article["li-stock/card"].why


def test_a_range_gives_a_range_and_the_value_nearest_the_stated_counts(article):
    mix, hours = article["li-stock/mix"], article["model-hours"]
    assert (mix.recomputed_low, mix.recomputed_high) == (pytest.approx(5.39e6 / 989), 16_843.75)
    assert (hours.recomputed_low, hours.recomputed_high) == (
        pytest.approx(1e6 * 15 / 3600),
        pytest.approx(1e6 * 30 / 3600),
    )


def test_a_row_shows_its_working_and_what_it_builds_on(article):
    assert article["li-cards"].why == "5.39 × 1,000,000 ÷ 320 = 16,843.75"
    assert article["li-cards"].builds_on == ("li-august", "eflops-unit", "a800-fp16")
    card = article["tesla-eflops/card"]
    assert card.why.startswith("989: implied is 67.5 × 1,000,000 ÷ 67,500 = 1,000; ")
    assert card.builds_on == ("tesla-eflops", "eflops-unit", "tesla-h100")


def test_no_formula_holds_the_answer(article):
    for row in article.values():
        if row.formula and row.id not in ("eflops-unit", "tesla-fleet-clips"):
            assert row.builds_on or "part(" in row.formula, row.id
            assert str(row.figure) not in row.formula, row.id


ALTERED = {
    # claim, its figure, another, and every row whose verdict that changes
    "a card at its datasheet's figure": (
        ("a800-fp16", '"320"', '"312"'),
        {
            "a800-fp16": "holds",
            "a800-fp16/silicon": "holds",
            "eflops-cards": "holds_rounded",
            "eflops-servers": "contradicted",
            "eflops-servers/whole": "contradicted",
            "eflops-cost": "holds_rounded",
            "eflops-cost/whole": "holds_rounded",
        },
    ),
    "a dearer server": (
        ("server-price", '"950,000"', '"1,100,000"'),
        {
            "eflops-cost": "contradicted",
            "eflops-cost/whole": "contradicted",
            "eflops-cost/datasheet": "contradicted",
        },
    ),
    "a larger stock": (  # then a card is 320.8 TFLOPS, and 0.1 % of them are H100
        ("li-stock", '"10,000"', '"16,800"'),
        {"li-stock": "holds"},
    ),
    "a stock too large": (  # more than all A800
        ("li-stock", '"10,000"', '"30,000"'),
        {
            "li-stock/mix": "contradicted",
            "li-stock/card": "contradicted",
            "li-stock/h100-share": "contradicted",
        },
    ),
    "Huawei as before": (("huawei-now", '"7.5"', '"5"'), {"four-share": "contradicted"}),
    "fewer H100": (
        ("tesla-h100", '"67,500"', '"50,000"'),
        {
            "tesla-eflops": "contradicted",
            "tesla-eflops/card": "contradicted",
            "tesla-growth": "contradicted",
            "tesla-after": "contradicted",
            "tesla-after/datasheet": "contradicted",
        },
    ),
    "a figure that is a number": (
        ("eflops-servers", '"390"', "391"),
        {"eflops-servers": "holds", "eflops-servers/whole": "holds"},
    ),
}


@pytest.mark.parametrize("kind", ALTERED)
def test_altering_a_claim_changes_its_verdict_and_those_that_build_on_it(article, audited, kind):
    alteration, expected = ALTERED[kind]
    rows = audited(edited(*alteration))
    changed = {id_: row.verdict for id_, row in rows.items() if row.verdict != article[id_].verdict}
    assert changed == expected
    claim = alteration[0]
    for id_, row in rows.items():
        if row.recomputed != article[id_].recomputed:
            assert claim in row.builds_on or id_ == "li-stock/mix", id_  # the nearest to another stock


JUDGED = [
    # stated, recomputed, qualifier, verdict
    ("390", "390.4", "exact", "holds"),
    ("390", "390.6", "exact", "holds_rounded"),
    ("391", "390.1", "exact", "holds_rounded"),  # rounded up
    ("320", "312", "exact", "contradicted"),  # to tens it is 310
    ("320", "312", "about", "holds_rounded"),
    ("310", "312", "exact", "holds_rounded"),
    ("1,000", "989", "exact", "holds_rounded"),
    ("990", "989", "exact", "holds_rounded"),
    ("1,005", "989", "exact", "contradicted"),
    ("3.14", "3.1459", "exact", "holds_rounded"),  # cut off
    ("3.16", "3.1459", "exact", "contradicted"),
    ("312.5", "312", "exact", "contradicted"),
    ("390", "394", "about", "holds"),  # a zero at the end isn't a digit of "about 390"
    ("390", "396", "about", "holds_rounded"),
    ("370 million", "371093750", "about", "holds"),
    ("370 million", "371093750", "exact", "holds_rounded"),
    ("3.70 billion", "3710000000", "about", "holds_rounded"),  # after a point it is
    ("3", "2.99", "nearly", "holds"),
    ("3", "2.4", "nearly", "contradicted"),
    ("100", "97.1", "exact", "holds_rounded"),
    ("100", "97", "exact", "contradicted"),
    ("16,800", "16800", "over", "holds"),
    ("16,800", "99999", "over", "holds"),
    ("16,800", "16799", "over", "holds_rounded"),
    ("16,800", "10000", "over", "contradicted"),
    ("1,000", "3100", "on the order of", "holds"),
    ("1,000", "320", "on the order of", "holds"),
    ("1,000", "3200", "on the order of", "contradicted"),
    ("1,000", "-1000", "on the order of", "contradicted"),
    ("3.5 %", "0.0346", "about", "holds"),
    ("3.5 %", "0", "about", "contradicted"),
]


@pytest.mark.parametrize(("stated", "recomputed", "qualifier", "verdict"), JUDGED)
def test_the_verdict_follows_the_rules(stated, recomputed, qualifier, verdict):
    figure = read_figure(stated)
    assert judge(figure.span.low, Fraction(recomputed), qualifier, figure.place(qualifier)) == verdict


@pytest.mark.parametrize(
    ("given_", "low", "high"),
    [
        (320, 320, 320),
        (5.39, Fraction("5.39"), Fraction("5.39")),
        ("16,800", 16_800, 16_800),
        ("3.7 billion", 3_700_000_000, 3_700_000_000),
        ("3.5 %", Fraction("0.035"), Fraction("0.035")),
        ("15-30", 15, 30),
        ("1–2 million", 1_000_000, 2_000_000),
        (1e-7, Fraction("1e-7"), Fraction("1e-7")),
    ],
)
def test_a_figure_is_read_exactly(given_, low, high):
    assert read_figure(given_).span == (low, high)


@pytest.mark.parametrize(
    "given_",
    [
        0,
        -1,
        True,
        None,
        float("nan"),
        float("inf"),
        "",
        "nan",
        "1e5",
        "1,00",
        "16.800,0",
        "30-15",
        "x",
        10**60,
    ],
)
def test_what_is_no_figure_is_refused(given_):
    with pytest.raises(ValueError, match="a number above 0"):
        read_figure(given_)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((371_450_000, "371.45 million"), (3.7e9, "3.7 billion"), (1e6, "1 million")),
        *(
            (16843.75, "16,843.75"),
            (371_093_750, "371.09375 million"),
            (390.625, "390.625"),
            (67.5e6 / 1e6 * 0.989, "66.7575"),
        ),
        *((16.8 / 492, "0.034146"), (0, "0"), (312, "312"), (-2.5, "-2.5"), (9.9999999999, "10")),
    ],
)
def test_figures_read_as_people_write_them(value, text):
    assert format_figure(value) == text


def test_a_file_of_ones_own_is_audited_instead_of_the_article(audited):
    rows = audited(MINE)
    assert {id_: (row.recomputed, row.verdict, row.source) for id_, row in rows.items()} == {
        "cards": (None, "cannot_check", "counted"),
        "servers": (13, "holds", "counted"),
        "speed": (pytest.approx(0.0312), "holds", "counted"),
    }


def test_a_users_part_may_be_named(audited, tmp_path):
    parts = tmp_path / "parts.toml"
    parts.write_text(
        'schema = 1\n[sources]\nsheet = { text = "ACME X1 datasheet", date = "2026-10" }\n[[part]]\n'
        'id = "acme-x1"\nname = "ACME X1"\nvendor = "ACME"\nsources = ["sheet"]\n[part.dense_tflops]\n'
        "fp16 = 300\n"
    )
    (tmp_path / "mine.toml").write_text(MINE.replace("nvidia-a800-sxm4-80gb", "acme-x1"))
    assert audit(tmp_path / "mine.toml", [parts])[-1].recomputed == pytest.approx(0.03)


A_CLAIM = '[[claim]]\nid = "{}"\nwords = "x"\nfigure = 1\nunit = "ratio"\nformula = "{}"\n'
BAD = {
    "not TOML": ("[[claim", "not TOML", "a TOML document"),
    "no claims": ("schema = 1", "claim", "required"),
    "a newer file": (MINE.replace("schema = 1", "schema = 2"), "schema", "1"),
    "NaN": (MINE.replace("= 100", "= nan"), "claim[cards].figure", "got nan; expected a number above 0"),
    "a negative figure": (MINE.replace("= 100", "= -100"), "claim[cards].figure", "a number above 0"),
    "a figure in other words": (
        MINE.replace("= 100", '= "100k"'),
        "claim[cards].figure",
        "got '100k'; expected a number above 0",
    ),
    "an unknown unit": (MINE.replace('"servers"\nf', '"racks"\nf'), "claim[servers].unit", "got 'racks'"),
    "an unknown qualifier": (MINE.replace('"over"', '"circa"'), "claim[speed].qualifier", "'exact', 'about'"),
    "a misspelt key": (MINE.replace("figure = 13", "figures = 13"), "claim[servers].figures", "no such key"),
    "a figure without a unit": (MINE.replace('unit = "cards"', ""), "claim[cards]", "a figure and its unit"),
    "neither formula nor reason": (
        MINE.replace('cannot_check = "an asset list"', ""),
        "claim[cards]",
        "a formula, or cannot_check",
    ),
    "a formula without a figure": (
        MINE.replace('figure = 13\nunit = "servers"', ""),
        "claim[servers]",
        "a figure for its formula",
    ),
    "no source": (MINE.replace('source = "counted"', ""), "claim[cards].source", "here or for the file"),
    "an id twice": (MINE + A_CLAIM.format("speed", "cards"), "claim[speed].id", "an id that no other has"),
    "a formula that is code": (
        MINE.replace("ceil(cards / 8)", "cards ** 8"),
        "claim[servers].formula",
        "got 'cards ** 8'; expected a formula of numbers",
    ),
    "a formula that is a number": (
        MINE.replace('"ceil(cards / 8)"', "13"),
        "claim[servers].formula",
        "got 13; expected a formula of",
    ),
    "an unknown claim": (
        MINE.replace("ceil(cards", "ceil(card"),
        "claim[servers].formula",
        "got 'card'; expected the id of a claim",
    ),
    "a minus without spaces": (
        MINE.replace("ceil(cards / 8)", "cards-8"),
        "claim[servers].formula",
        "got 'cards-8'; expected the id of a claim with a figure in this file (a minus stands between",
    ),
    "an unknown part": (
        MINE.replace("a800", "a801"),
        "claim[speed].formula",
        "got 'nvidia-a801-sxm4-80gb'; expected the id of a part in the registry",
    ),
    "a figure that a part hasn't": (
        MINE.replace(".fp16.", ".fp17."),
        "claim[speed].formula",
        "such as fp16.datasheet",
    ),
    "a part's other attribute": (
        MINE.replace("fp16.datasheet", "file"),
        "claim[speed].formula",
        "such as fp16.datasheet",
    ),
    "a claim recomputed from itself": (
        MINE + A_CLAIM.format("self", "self * 1"),
        "claim[self].formula",
        "got 'self from self'; expected a claim recomputed from others",
    ),
    "a division by 0": (
        MINE.replace("cards / 8", "cards / (cards - 100)"),
        "claim[servers].formula",
        "no division by what may be 0",
    ),
    "an endless figure": (
        MINE.replace("cards / 8", "cards * 1e300 * 1e300"),
        "claim[servers].formula",
        "a value from 1e-30 to 1e30",
    ),
    "implied without a unit": (
        MINE + '[[claim.reading]]\nid = "x"\nformula = "cards"\nimplies = "cards"\nwhy = "x"\n',
        "claim[speed].reading[x]",
        "implies and its unit",
    ),
    "a reading of nothing": (
        MINE + '[[claim.reading]]\nid = "x"\nwhy = "x"\n',
        "claim[speed].reading[x]",
        "a formula, or what the claim implies",
    ),
    "a reading twice": (
        MINE + '[[claim.reading]]\nid = "x"\nformula = "cards"\nwhy = "x"\n' * 2,
        "claim[speed].reading[x].id",
        "an id that no other has",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_sentence_with_file_key_got_and_expected(audited, kind):
    text, key, rest = BAD[kind]
    with pytest.raises(InputError) as caught:
        audited(text)
    said = str(caught.value)
    assert "mine.toml: " in said
    assert key in said
    assert rest in said
    assert "; got " in said
    assert "; expected " in said
    assert "\n" not in said
    assert caught.value.exit_status == 2


def test_a_cycle_is_refused_with_its_claims(audited):
    text = (
        MINE + A_CLAIM.format("one", "two") + A_CLAIM.format("two", "three") + A_CLAIM.format("three", "one")
    )
    with pytest.raises(
        InputError, match=r"claim\[(one|two|three)\]\.formula .* got '.*(one from two|two from)"
    ):
        audited(text)


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    with pytest.raises(InputError, match="a file of claims can't be read; got 'No such file"):
        audit(tmp_path / "gone.toml")
    (tmp_path / "latin.toml").write_bytes(b"\xe9")
    with pytest.raises(InputError, match="not UTF-8"):
        audit(tmp_path / "latin.toml")


def test_the_published_schema_is_current():
    published = json.loads((ROOT / "docs/schema/claims.schema.json").read_text(encoding="utf-8"))
    assert published == schema(), "run `make schemas`"


def test_a_frame_has_a_row_a_claim_or_reading_and_the_columns_of_json():
    rows = audit()
    table = frame(rows)
    assert list(table.columns) == [field.name for field in fields(AuditRow)] == list(rows[0].as_json())
    assert len(table) == len(rows)
    assert list(table["id"][:2]) == ["a800-fp16", "a800-fp16/silicon"]
