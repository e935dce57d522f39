"""The leaderboard: what is ranked with what, what stands in doubt, and that results/README.md is current."""

import json
import math
import random
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt

from nameplate.base.errors import InputError
from nameplate.device.identity import CpuIdentity, CudaIdentity, SimulatedIdentity
from nameplate.record import METHOD
from nameplate.report.leaderboard import BEGIN, END, make_leaderboard, part_name
from nameplate.store.folder import RecordWriter, create, find_runs, mark_done
from nameplate.store.manifest import DeviceEntry, Options

pytestmark = pytest.mark.usefixtures("made_up_figures")

RESULTS = Path(__file__).parents[2] / "results"
NOMINAL = 0.5
A800 = "nvidia-a800-sxm4-80gb"


@pytest.fixture
def product(make_record):
    """A product's record that reaches this share of nominal, ± 1 %."""

    def make(share, dtype="bf16", shape="64x64x64", verdicts=("clean",), nominal=NOMINAL, **changes):
        figures = {
            "tflops": share * nominal,
            "tflops_low": share * nominal * 0.99,
            "tflops_high": share * nominal * 1.01,
            "nominal_tflops": nominal,
            "datasheet_tflops": nominal,
            "efficiency": share,
            "efficiency_low": share * 0.99,
            "efficiency_high": share * 1.01,
            "datasheet_efficiency": share,
        }
        phase = changes.get("phase") or "-"
        workload = changes.get("workload", "matmul")
        declared = {
            "case": f"{workload}/{dtype}/{shape}/{changes.get('fill', 'normal')}/warm/{phase}/torch",
            "dtype": dtype,
            "shape": shape,
            "verdict": verdicts[0],
            "verdicts": verdicts,
        }
        return make_record(**(figures | declared | changes))

    return make


@pytest.fixture
def block(product):
    """A transformer block's record that reaches this share of nominal."""

    def make(share, **changes):
        sizes = {"pass": "forward_backward", "batch": 1, "tokens": 8, "heads": 2, "head_dim": 4}
        model = {"workload": "transformer_block", "represents": "Llama-3-8B", "dimensions": sizes}
        return product(share, shape="1x8x8-forward_backward", **model, **changes)

    return make


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def publish(make_manifest, results):
    """Write a published run, as `bench publish` leaves one."""

    def write(run, *records, part="amd-zen4", to=None, done=True, identity=None, **changes):
        names = dict.fromkeys(record.device for record in records)
        identity = identity or SimulatedIdentity(name="a simulated device")
        entries = tuple(DeviceEntry(name=name, part=part, evidence="", identity=identity) for name in names)
        cases = [{"case": record.case, "device": record.device} for record in records]
        fields = {"run": run, "devices": entries, "published": True} | changes
        folder = create(to or results / str(part), make_manifest(cases, **fields))
        with RecordWriter(folder, "cpu") as writer:
            for record in records if done else records[1:]:
                writer.append(record)
        if done:
            mark_done(folder)
        return folder

    return write


def tables(text):
    """Every table by the heading above it: its rows, each a cell by its column, as Markdown."""
    found, heading, columns = {}, "", None
    for line in text.splitlines():
        if line.startswith("#"):
            heading, columns = line.lstrip("# "), None
        elif line.startswith("| "):
            cells = line[2:-2].split(" | ")
            if columns is None:
                columns = cells
                found.setdefault(heading, [])
            elif set(line) - set("|-: "):
                found[heading].append(dict(zip(columns, cells, strict=True)))
    return found


def table(folder, heading):
    return tables(make_leaderboard(folder).text)[heading]


def order(folder):
    return [result.run for result in make_leaderboard(folder).results]


def test_the_leaderboard_of_this_repository_is_current():
    found = make_leaderboard(RESULTS)
    assert found.problems == ()
    assert found.current, "run `bench leaderboard` and commit results/README.md"


def test_a_figure_that_changes_makes_it_not_current(tmp_path):
    """The same check as above, on a copy in which one record of the chain reads otherwise."""
    shutil.copytree(RESULTS, tmp_path / "results")
    assert make_leaderboard(tmp_path / "results").current
    path = next((tmp_path / "results").rglob("records-*.jsonl"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["workload"] == "transformer_block" and line["tflops"]:
            line |= {name: line[name] * 0.9 for name in ("tflops", "tflops_low", "tflops_high")}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert not make_leaderboard(tmp_path / "results").current


@pytest.mark.parametrize(("old", "new"), [("2026-11-22 |", "2026-11-23 |"), (END, f"a line more\n\n{END}")])
def test_a_leaderboard_edited_by_hand_is_not_current(tmp_path, old, new):
    shutil.copytree(RESULTS, tmp_path / "results")
    path = tmp_path / "results" / "README.md"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert not make_leaderboard(tmp_path / "results").current


def test_one_more_result_makes_it_not_current(tmp_path, publish, product):
    shutil.copytree(RESULTS, tmp_path / "results")
    publish("another", product(0.9))
    assert not make_leaderboard(tmp_path / "results").current


def test_a_readme_keeps_what_was_written_by_hand_byte_by_byte(results, publish, product):
    publish("a", product(0.9))
    before, after = "# Ours\r\n\r\nRule  \r\n", "\r\n\nThe rule, at the end without a line's end"
    path = results / "README.md"
    path.write_bytes(f"{before}{BEGIN}\nold rows\n{END}{after}".encode())
    found = make_leaderboard(results)
    assert not found.current
    found.write()
    text = path.read_bytes().decode()
    assert text.startswith(before + BEGIN)
    assert text.endswith(END + after)
    assert "old rows" not in text
    assert "90.0%" in text
    assert make_leaderboard(results).current


@pytest.mark.parametrize("before", ["# Ours\n\nOne.\n", "# Ours\n\nOne.", "# Ours\n\nOne.\n\n"])
def test_a_readme_without_marks_gets_them_at_its_end(results, publish, product, before):
    publish("a", product(0.9))
    (results / "README.md").write_text(before)
    make_leaderboard(results).write()
    text = (results / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"{before.rstrip()}\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n")
    assert make_leaderboard(results).current


def test_a_readme_is_made_where_there_is_none(results, publish, product):
    publish("a", product(0.9))
    assert not make_leaderboard(results).current
    make_leaderboard(results).write()
    text = (results / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# Published results\n\n{BEGIN}\n")
    assert make_leaderboard(results).current


BROKEN = {
    "no end": (BEGIN, "1 of the first, 0 of the second"),
    "no begin": (END, "0 of the first, 1 of the second"),
    "two parts": (f"{BEGIN}{END}{BEGIN}{END}", "2 of the first, 2 of the second"),
    "the end first": (f"{END}\n{BEGIN}", "1 of the first, 1 of the second"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_unpaired_marks_are_refused(results, publish, product, kind):
    publish("a", product(0.9))
    text, got = BROKEN[kind]
    (results / "README.md").write_text(text)
    with pytest.raises(InputError) as refusal:
        make_leaderboard(results)
    assert refusal.value.where == str(results / "README.md")
    assert refusal.value.what == "the two marks aren't there once each, in order"
    assert refusal.value.got == got
    assert refusal.value.expected == f"{BEGIN} … {END}"
    assert (results / "README.md").read_text() == text


def test_a_readme_that_is_not_text_is_refused(results, publish, product):
    publish("a", product(0.9))
    (results / "README.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"README\.md: can't be read: .*; expected text in UTF-8"):
        make_leaderboard(results)


def test_a_readme_that_cannot_be_written_is_refused(results, publish, product):
    publish("a", product(0.9))
    found = make_leaderboard(results)
    shutil.rmtree(results)
    with pytest.raises(InputError, match=r"README\.md: can't write the leaderboard: .*; expected a folder"):
        found.write()


def test_runs_are_ordered_by_reach_and_then_by_share(results, publish, product, block):
    publish("product-only", product(0.99))
    publish("low-block", product(0.9), block(0.5))
    publish("high-block", product(0.8), block(0.6))
    assert order(results) == ["high-block", "low-block", "product-only"]


def test_a_run_in_doubt_is_below_the_trusted_ones(results, publish, product, block):
    publish("a-doubtful", product(0.99, verdicts=("unstable",)), block(0.98))
    publish("b-low", product(0.4), block(0.3))
    assert order(results) == ["b-low", "a-doubtful"]
    low, doubtful = table(results, f"bf16, method {METHOD}")
    assert (low["best product"], low["transformer block"]) == ("40.0% ± 0.4", "30.0% ± 0.3")
    assert doubtful["best product"] == "99.0% ± 1.0 ?"
    assert doubtful["transformer block"] == "98.0% ± 1.0"
    assert (low["verdict"], doubtful["verdict"]) == ("clean", "unstable")


def test_a_sustained_figure_may_be_power_capped_but_nothing_else(results, publish, product):
    settled = {"phase": "sustained", "dtype": "bf16"}
    publish("c-capped", product(0.5, verdicts=("power_capped",), **settled))
    publish("b-hot", product(0.9, verdicts=("throttled", "power_capped"), **settled))
    publish("a-burst", product(0.9, verdicts=("power_capped",), phase="burst"))
    assert order(results) == ["c-capped", "b-hot", "a-burst"]
    found = make_leaderboard(results).results
    assert [result.verdict for result in found] == ["power_capped", "throttled", "power_capped"]
    assert [result.believed for result in found] == [True, False, False]


def test_methods_and_dtypes_are_not_ranked_together(results, publish, product):
    publish("old", product(0.9), method=1)
    publish("new", product(0.5), method=METHOD)
    publish("single", product(0.7, dtype="fp32"), method=METHOD)
    publish("unrated", product(0.7, nominal_tflops=None, efficiency=None))
    found = tables(make_leaderboard(results).text)
    runs = {heading: [row["run"].partition("]")[0][1:] for row in rows] for heading, rows in found.items()}
    assert list(runs.items())[1:] == [
        (f"bf16, method {METHOD}", ["new"]),
        ("bf16, method 1", ["old"]),
        (f"fp32, method {METHOD}", ["single"]),
        (f"no rated product, method {METHOD}", ["unrated"]),
    ]
    (unrated,) = found[f"no rated product, method {METHOD}"]
    assert (unrated["verdict"], unrated["nominal, TFLOPS"]) == ("–", "–")


def test_only_stages_that_a_table_has_are_columns(results, publish, product, block):
    publish("new", product(0.9, phase="burst"), product(0.8, phase="sustained"), block(0.6))
    publish("old", product(0.7), method=1)
    (new,) = table(results, f"bf16, method {METHOD}")
    (old,) = table(results, "bf16, method 1")
    stages = ["best product, burst", "best product, sustained", "transformer block"]
    assert [name for name in new if "product" in name or "block" in name] == stages
    assert [new[stage] for stage in stages] == ["90.0% ± 0.9", "80.0% ± 0.8", "60.0% ± 0.6"]
    assert [name for name in old if "product" in name or "block" in name] == ["best product"]


def test_the_best_products_are_trusted_real_sustained_and_of_the_newest_method(results, publish, product):
    publish("old", product(0.95), product(0.6, dtype="fp64"), method=1)
    publish(
        "new",
        product(0.99, phase="burst"),
        product(0.98, shape="doubtful", phase="sustained", verdicts=("unstable",)),
        product(0.97, shape="zeros", phase="sustained", fill="zeros"),
        product(0.8, shape="good", phase="sustained"),
        product(0.9, dtype="fp32", verdicts=("contended",)),
    )
    bf16, fp32, fp64 = table(results, "Best products")
    assert (bf16["dtype"], bf16["of nominal"], bf16["product"]) == ("bf16", "80.0% ± 0.8", "good sustained")
    assert (bf16["method"], bf16["TFLOPS"]) == (str(METHOD), "0.400 ± 0.004")
    assert (fp64["dtype"], fp64["of nominal"], fp64["method"]) == ("fp64", "60.0% ± 0.6", "1")
    assert (fp32["dtype"], set(fp32.values()) - {"fp32", "AMD Zen 4"}) == ("fp32", {"–"})


def test_products_are_ranked_by_share_and_not_by_tflops(results, publish, product):
    publish("many-cores", product(0.5, nominal=8.0))
    publish("few-cores", product(0.9, nominal=0.2))
    (best,) = table(results, "Best products")
    assert best["run"].startswith("[few-cores]")
    assert [row["nominal, TFLOPS"] for row in table(results, f"bf16, method {METHOD}")] == ["0.200", "8.00"]


def test_a_nominal_given_by_hand_is_ranked_last(results, publish, product):
    publish("given", product(0.99), options=Options(nominal={"bf16": NOMINAL}))
    publish("other-given", product(0.7), options=Options(nominal={"fp16": NOMINAL}))
    publish("rated", product(0.5))
    assert order(results) == ["other-given", "rated", "given"]
    assert table(results, f"bf16, method {METHOD}")[-1]["worth knowing"] == "nominal given by hand"
    (best,) = table(results, "Best products")
    assert best["run"].startswith("[other-given]")


def test_a_part_has_its_name_from_the_registry(results, publish, product):
    publish("card", product(0.8), part=A800)
    publish("cpu", product(0.8), part="intel-emerald-rapids")
    publish("mine", product(0.8), part="our-own_part")
    text = make_leaderboard(results).text
    assert "### Intel Emerald Rapids\n\nPart `intel-emerald-rapids`.\n" in text
    assert "### NVIDIA A800 SXM4 80GB\n\nPart `nvidia-a800-sxm4-80gb`.\n" in text
    assert "### our-own\\_part\n\nPart `our-own_part`.\n" in text
    assert part_name("gone") == "gone"


def test_the_best_published_product_is_beside_ours_as_a_share_of_the_datasheet(results, publish, product):
    publish(
        "a800", product(0.8, nominal=320.0, datasheet_tflops=312.0, datasheet_efficiency=0.82051), part=A800
    )
    publish("h100", product(0.6, dtype="fp8_e4m3"), part="nvidia-h100-sxm5-80gb")
    publish("cpu", product(0.6))
    cpu, a800, h100 = table(results, "Best products")
    assert a800["of datasheet"] == "82.1%"
    source = "stas00/ml-engineering, accelerator README, its mamf-finder table"
    published = f"86.9% \\(A100 SXM 80GB, {source}, 2026-08\\)"
    assert a800["best published, of datasheet"] == published
    assert h100["best published, of datasheet"].startswith("77.3% \\(H100 SXM, gpu-fryer")
    assert cpu["best published, of datasheet"] == "–"
    assert table(results, f"bf16, method {METHOD}")[-1]["nominal, TFLOPS"] == "320 \\(datasheet 312\\)"


def test_a_run_of_several_devices_shows_its_slowest(results, publish, product):
    publish("pair", product(0.9, device="cuda:0"), product(0.6, device="cuda:1"), part=A800)
    (row,) = table(results, f"bf16, method {METHOD}")
    assert row["best product"] == "60.0% ± 0.6"
    assert row["worth knowing"] == "the slowest of 2 devices"


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("Intel(R) Xeon(R) Processor", True),
        ("AMD EPYC-Milan Processor @ 2.30GHz", True),
        ("", True),
        ("AMD EPYC 9R14", False),
        ("Intel(R) Xeon(R) Platinum 8488C", False),
    ],
)
def test_a_cpu_that_hides_its_model_is_marked(results, publish, product, name, hidden):
    fields = {"logical_cpus": 2, "usable_cores": 2.0, "memory_bytes": 1 << 30}
    publish("a", product(0.9), identity=CpuIdentity(name=name, architecture="x86_64", **fields))
    assert table(results, f"bf16, method {METHOD}")[0]["worth knowing"] == (
        "hides its model" if hidden else "–"
    )
    assert make_leaderboard(results).results[0].as_json()["hides_model"] is hidden


def test_a_gpu_hides_nothing(results, publish, product):
    publish("a", product(0.9), identity=CudaIdentity(name="a card without a number", index=0), part=A800)
    assert not make_leaderboard(results).results[0].hides_model


def test_every_link_has_a_target(results, publish, product):
    folder = publish("a", product(0.9), to=results / "a part (mine)")
    publish("b", product(0.8))
    (folder / "report.html").write_text("<p>")
    (folder / "report.md").write_text("# Report")
    make_leaderboard(results).write()
    targets = [results / target for target in links((results / "README.md").read_text(encoding="utf-8"))]
    assert {target.resolve() for target in targets} >= {folder, folder / "report.md"}
    assert len(targets) == 4  # two runs and a report, and the run of the best product
    assert all(target.exists() for target in targets)


def links(text):
    """Where every link of a rendered document leads."""
    tokens = [token for each in MarkdownIt().enable("table").parse(text) for token in each.children or ()]
    return [unquote(token.attrs["href"]) for token in tokens if token.type == "link_open"]


def test_text_of_a_result_opens_no_markup(results, publish, product):
    hostile = f"<b>x</b> | [y](http://z) `c` **d** {END}\n# h \x1b[2J"
    record = product(0.9, shape=hostile, phase=None)
    publish("a", record, software={"torch": hostile}, created=hostile)
    text = make_leaderboard(results).text
    assert text.count(END) == 1
    assert not set(text) & {"\x1b"}
    tokens = MarkdownIt().enable("table").parse(text)
    inline = {token.type for each in tokens for token in each.children or ()}
    assert inline <= {"text", "softbreak", "link_open", "link_close", "code_inline"}
    assert all("http" not in link for link in links(text))
    assert [token.content.strip() for token in tokens if token.type == "html_block"] == [BEGIN, END]
    widths = {
        row.count("<td") for row in MarkdownIt().enable("table").render(text).split("<tr>") if "<td" in row
    }
    assert widths == {7}


def test_the_text_is_the_same_in_whatever_order_folders_are_found(
    monkeypatch, results, publish, product, block
):
    for n in range(5):
        publish(f"run-{n}", product(0.5), block(0.4), to=results / f"folder-{9 - n}")
    folders, texts = find_runs(results), set()
    for turn in range(4):
        found = random.Random(turn).sample(folders, len(folders))
        monkeypatch.setattr("nameplate.report.leaderboard.find_runs", lambda _, found=found: found)
        texts.add(make_leaderboard(results).text)
    assert len(texts) == 1


def test_equal_results_keep_the_order_of_their_names(results, publish, product):
    for run in ("c", "a", "b"):
        publish(run, product(0.5))
    assert order(results) == ["a", "b", "c"]
    assert table(results, "Best products")[0]["run"].startswith("[a]")


def test_a_run_that_cannot_be_ranked_is_left_out_with_the_reason(results, publish, product):
    publish("good", product(0.5))
    publish("own", product(0.9), published=False)
    publish("torn", product(0.9), product(0.8, dtype="fp32"), done=False)
    publish("nameless", product(0.9), part=None, to=results / "x")
    bad = publish("bad", product(0.9))
    (bad / "manifest.json").write_text("{")
    found = make_leaderboard(results)
    assert [result.run for result in found.results] == ["good"]
    sentences = "\n".join(found.problems)
    assert len(found.problems) == 4
    assert f"skipped a run: {bad / 'manifest.json'}: not JSON" in sentences
    assert f"skipped {results / 'amd-zen4' / 'own'}: not a published copy, and may name" in sentences
    assert f"skipped {results / 'amd-zen4' / 'torn'}: cases without a record" in sentences
    assert f"skipped {results / 'x' / 'nameless'}: its devices aren't all of one known part" in sentences


def test_the_rest_of_an_interrupted_publish_is_skipped(results, publish, product):
    publish("good", product(0.5))
    publish("half", product(0.9), to=results / "amd-zen4" / ".unfinished-x")
    assert order(results) == ["good"]


def test_a_folder_without_a_published_run_is_refused(results, publish, product):
    for prepare in (lambda: None, lambda: publish("own", product(0.9), published=False)):
        prepare()
        with pytest.raises(InputError) as refusal:
            make_leaderboard(results)
        sentence = f"bench leaderboard: no published run here; got {str(results)!r}; expected a folder that"
        assert str(refusal.value).startswith(sentence)
        assert not (results / "README.md").exists()


def test_a_row_as_json_has_names_shares_and_no_infinity(results, publish, product):
    publish("a", product(0.9), product(0.6, phase="burst", dtype="fp32"), method=1)
    row = make_leaderboard(results).results[0].as_json()
    assert (row["part"], row["part_name"], row["run"], row["method"]) == ("amd-zen4", "AMD Zen 4", "a", 1)
    assert (row["dtype"], row["nominal_tflops"], row["verdict"], row["believed"]) == (
        "bf16",
        0.5,
        "clean",
        True,
    )
    assert (row["folder"], row["report"], row["torch"]) == ("amd-zen4/a", None, "2.13.0")
    (reached,) = row["reached"]
    assert reached["stage"] == "gemm"
    assert reached["tflops"] == pytest.approx(0.45)
    assert math.isclose(reached["share"]["value"], 0.9)
    json.dumps(row, allow_nan=False)
