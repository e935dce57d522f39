"""`bench fleet`: its screen, its document, its exit statuses, and what it doesn't import."""

import csv
import io
import json
import math
import re
import subprocess
import sys
from functools import partial

import pytest

from nameplate.device.identity import CpuIdentity, CudaIdentity
from nameplate.fleet.montecarlo import DRAWS
from nameplate.store.manifest import DeviceEntry
from nameplate_kernels import ScaledBlock, TransformerBlock

A800 = "nvidia-a800-sxm4-80gb"
FEW = ("--draws", 1_000)  # where no figure is looked at
SENTENCE = "One nominal EFLOPS of A800 (3,125 cards at 320) delivers 0.533 EFLOPS (nine draws in ten: "


@pytest.fixture
def bench(bench, monkeypatch):
    """Run `bench fleet …` on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    return partial(bench, "fleet")


@pytest.fixture
def cpu_run(store_run, make_record, tmp_path):
    """A CPU's run on disk; its folder."""
    identity = CpuIdentity(
        name="AMD \x1b[2J[red]EPYC",
        architecture="x86_64",
        logical_cpus=4,
        usable_cores=2.0,
        memory_bytes=1 << 34,
    )
    device = DeviceEntry(name="cpu", part="amd-zen4", evidence="its model", identity=identity)
    return store_run(tmp_path / "runs", make_record(), devices=(device,))


def test_list_prints_the_fleets_with_dates_kinds_sources_and_cards(bench):
    status, out, _ = bench("list", "--details")
    assert status == 0
    assert len(bench("list")[1].splitlines()) <= 40
    for text in ("tesla-2024-q3", "2024-Q3", "67,500", "16,844", "7,844", "4,375", "7.5", "a mix", "36Kr",
                 "target", "addition", "equivalent", "scale", "unknown"):  # fmt: skip
        assert text in out


def test_list_as_json(bench):
    rows = {row["fleet"]: row for row in json.loads(bench("list", "--json")[1])}
    assert len(rows) == 20
    kinds = {row["kind"] for row in rows.values()}
    assert kinds == {"held", "target", "addition", "equivalent", "scale"}
    assert all(row["as_of"] and row["source"] for row in rows.values())
    li_auto, huawei = rows["li-auto-2024-08"], rows["huawei-2024-10"]
    assert (li_auto["stated_eflops"], li_auto["stated_cards"], li_auto["cards"]) == (5.39, None, 16844)
    assert (huawei["part"], huawei["cards"], huawei["stated_eflops"]) == (None, None, 7.5)


def test_cost_prints_the_sentence_the_conventions_and_how_far_it_reaches(bench):
    status, short, err = bench("cost", *FEW)
    assert (status, err) == (0, "")
    assert short.startswith("12 fleets deliver 38.")
    assert len(short.splitlines()) <= 40
    said = " ".join(bench("cost", "--details")[1].split())
    for text in (
        SENTENCE,
        "(RMB 371.09375 M), or 391 whole servers (RMB 371.45 M).",
        "497 published runs in 26 families, 147 on its generation",
        "mfu-ampere-ga100",
        "delivered counts the chain up to `scaled`; goodput isn't counted yet",
        "With fabric, spares, electricity and operation one delivered EFLOPS costs RMB ",
        "Ownership: servers with spares",
        "One delivered EFLOPS, if the chain is counted up to each stage",
        "Where the spread comes from",
        "ascend-910b-scaled-assumed",
        "the bf16 derate serves fp16",
        "nominal of one card, for cards, delivered EFLOPS and prices alike: H100 989 TFLOPS, A800 320",
        "whether chassis and network are included isn't stated",
        "a dealer quoted by Huxiu",
        "a mix of parts in unknown shares",
    ):
        assert text in said


def test_the_fleet_that_was_asked_for_is_the_first_sentence(bench, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    few = ("--draws", 1000)
    first = bench("cost", "--eflops", 10, "--part", "A800", *few).out.splitlines()[0]
    assert re.match(
        r"10 EFLOPS of A800 \(31,250 cards\) delivers 5\.\d+ EFLOPS \(nine draws in ten: "
        r".*\) of 10\.0 nominal; its servers cost RMB 3,711 M\. One nominal EFLOPS",
        first,
    )
    assert bench("cost", "--part", "A800", *few).out.startswith("One nominal EFLOPS of A800")
    said = bench("own", "--part", "A800", "--power-limit", 300, *few).out.splitlines()[0]
    assert "the known rents are of cards without a power limit" in said
    assert "got '0'; expected from 0.001" in bench("own", "--part", "A800", "--rent", 0, *few).err


def test_the_cost_of_a_card_says_behind_its_figures_what_is_missing_and_what_fills_it(bench):
    said = " ".join(bench("cost", "--part", "P800", "--draws", 1000)[1].split())
    assert said.startswith("One nominal EFLOPS of P800 (2,899 cards at 345) delivers 0.")
    assert "no price of a server of kunlunxin-p800 was found in 2026-11: only a range of " in said
    assert ": give a dated quotation, as --price kunlunxin-p800=RMB or in a file (--fleets FILE)." in said
    assert "devices, bf16, tuned, 2024 (model of MFU: 0." in said
    assert "Missing: " in said
    assert "Missing: " not in bench("cost", "nio", "--draws", 1000)[1]


def test_several_parts_stand_side_by_side_in_cost_and_own(bench, monkeypatch):
    both = ("--part", "H20", "--part", "A800", "--draws", 1000)
    assert [row["part"] for row in json.loads(bench("cost", *both, "--json")[1])] == [
        "nvidia-h20-96gb",
        "nvidia-a800-sxm4-80gb",
    ]
    monkeypatch.setenv("COLUMNS", "80")
    said = bench("own", *both)[1]
    assert re.match(
        r"A busy card-hour owned for 3 years costs 1 EFLOPS of H20 RMB 8\.\d+; 1 EFLOPS of\n"
        r"A800 RMB 7\.\d+ \(10\.0 rented\)\.",
        said,
    )
    # What adds up stays together at any width.
    heads = next(line for line in said.splitlines() if "capital" in line)
    assert all(each in heads for each in ("electricity", "building", "upkeep"))
    alone = " ".join(bench("own", "--part", "H20", "--draws", 1000)[1].split())
    assert "owned for 3 years; no rent of it is known: give one (--rent RMB)." in alone


def test_cost_as_json_is_one_row_a_fleet(bench):
    rows = json.loads(bench("cost", "--json")[1])
    assert [row["fleet"].rsplit("-20")[0] for row in rows[:5]] == [
        "tesla",
        "li-auto",
        "xpeng",
        "huawei",
        "nio",
    ]
    assert len(rows) == 20
    assert all(row["draws"] == DRAWS for row in rows)
    promised = {
        *("fleet", "name", "as_of", "part", "cards", "servers", "nominal_eflops", "stated_eflops"),
        *("delivered_eflops", "capex_rmb", "rmb_per_nominal_eflops", "rmb_per_delivered_eflops"),
        *("chain", "reason", "source", "kind", "power_mw", "full_capex_rmb", "ownership_rmb_per_year"),
        *("rmb_per_delivered_eflops_year", "rmb_per_pflop_day", "usd_per_pflop_day", "capex_usd"),
        *("gang_rmb_per_delivered_eflops", "independent_rmb_per_delivered_eflops", "sensitivity", "inputs"),
    }
    promised |= {
        f"{name}_{end}"
        for name in ("nominal_eflops", "delivered_eflops", "capex_rmb", "power_mw", "rmb_per_pflop_day")
        for end in ("p5", "p50", "p95")
    }
    assert all(promised <= row.keys() for row in rows)
    assert rows[1]["chain"][0]["value"] == 0.975
    assert [link["provenance"] for link in rows[1]["chain"]] == ["published", "modelled"]


def test_a_narrow_terminal_loses_no_figure(bench, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = bench("cost", *FEW)[1]
    assert max(map(len, out.splitlines())) <= 80
    assert len(out.splitlines()) <= 40
    for text in ("delivered", "2,000", "66.8"):
        assert text in out


def test_a_cpu_run_prints_its_own_figures_and_prices_nothing(bench, cpu_run):
    status, out, _ = bench("cost", "--run", cpu_run, "--details", *FEW)
    said = " ".join(out.split())
    assert status == 0
    assert "best product 0.400 TFLOPS in bf16, 80.0% of nominal 0.500 (clean)" in said
    assert "not priced: the run is of a CPU" in said
    assert "in training of 7B parameters, context 4,096, 4,375 devices, bf16, tuned, 2024" in said
    assert "[red]" in out
    assert "\x1b" not in out


@pytest.fixture
def scaled_run(store_run, make_record, tmp_path, made_up_figures):
    """A made-up run of an A800 on disk: a product at 250, a block at 180, and the block on 16 devices at 162.

    `nodes` is how many nodes these are of; 0 for a run without the block on several devices.
    """
    block = TransformerBlock.llama3_8b(128, "bf16", "forward_backward")
    scaled = ScaledBlock(block, "sharded", True, 16)
    model = {"represents": "Llama-3-8B", "group": "layer", "flops": block.flops}
    identity = CudaIdentity(name="NVIDIA A800-SXM4-80GB", index=0)
    entry = DeviceEntry(name="cuda:0", part=A800, evidence="its name", identity=identity)

    def make(tflops, **fields):
        rated = {"nominal_tflops": 320.0, "datasheet_tflops": 312.0, "device": "cuda:0", "part": A800}
        share = {"efficiency": tflops / 320, "tflops": tflops, "tflops_median": tflops}
        for figure in ("efficiency", "tflops"):
            share |= {f"{figure}_low": 0.99 * share[figure], f"{figure}_high": 1.01 * share[figure]}
        return make_record(**rated | share | fields)

    def build(nodes):
        job = {"world_size": 16, "nodes": nodes}
        records = [
            make(250.0, case="matmul/bf16/4096x4096x4096/normal/warm/-/torch"),
            make(
                180.0,
                case=f"transformer_block/bf16/{block.shape}/normal/warm/-/torch",
                dimensions=block.dimensions,
                **model,
            ),
            make(
                162.0,
                case=f"scaled_block/bf16/{scaled.shape}/normal/warm/-/torch",
                dimensions={**scaled.dimensions, **job},
                **model,
            ),
        ]
        results = tmp_path / f"runs-{nodes}"
        return store_run(results, *records[: 3 if nodes else 2], devices=(entry,))

    return build


def test_a_runs_own_scaling_takes_the_place_of_the_published_one(bench, scaled_run):
    def last_link(*arguments):
        (row,) = json.loads(bench("cost", "nio", "--json", *arguments)[1])
        return row["chain"][-1], row

    unscaled, _row = last_link("--run", scaled_run(0))
    assert (unscaled["to"], unscaled["provenance"]) == ("scaled", "modelled")
    own, row = last_link("--run", scaled_run(2))
    assert (own["from"], own["to"], own["provenance"]) == ("block", "scaled", "measured")
    assert row["run"]["used"]
    assert own["source"].startswith("scaled_block/")
    # Measured on 16 of two nodes, and carried on to all 4,375 cards by the stated model.
    ring, doubling = (4374 / 4375) / (15 / 16), math.log(4375) / math.log(16)
    assert own["value"] == pytest.approx(1 / (1 + (1 / 0.9 - 1) * math.sqrt(ring * doubling)))
    assert own["low"] < own["value"] < own["high"]
    reached = math.prod(link["value"] for link in row["chain"])
    assert row["delivered_eflops"] == pytest.approx(reached * row["nominal_eflops"], rel=0.02)
    # From one node nothing follows for a fleet of hundreds; for its own 16 cards, what was measured holds.
    of_one_node, _row = last_link("--run", scaled_run(1))
    assert of_one_node["provenance"] == "modelled"


def test_a_run_may_be_named_by_its_id(bench, cpu_run):
    rows = json.loads(
        bench("cost", "nio", "--run", cpu_run.name, "--results", cpu_run.parent, "--json", *FEW)[1]
    )
    assert rows[0]["run"]["run"] == cpu_run.name
    assert rows[0]["run"]["used"] is False
    assert rows[0]["chain"][-1]["provenance"] == "modelled"


def test_a_users_fleets_and_prices_are_used(bench, tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text(
        '[[fleet]]\nid = "mine"\nname = "[bold]Mine\\u001b[2J"\nas_of = "2026-11"\n'
        'part = "nvidia-h100-sxm5-80gb"\ncards = 80\nsource = "counted"\n'
        '[[price]]\npart = "nvidia-h100-sxm5-80gb"\ncards_per_server = 8\nserver_rmb = 2000000\n'
        'as_of = "2026-11"\nsource = "a quote"\nreplaces = true\n'
    )
    (row,) = json.loads(bench("cost", "mine", "--fleets", mine, "--json", *FEW)[1])
    assert (row["servers"], row["capex_rmb"], row["nominal_eflops"]) == (
        10,
        20_000_000,
        pytest.approx(0.07912),
    )
    assert "\x1b" not in bench("cost", "--fleets", mine, *FEW)[1] + bench("list", "--fleets", mine)[1]


def test_list_and_cost_as_csv(bench):
    listed = list(csv.DictReader(io.StringIO(bench("list", "--csv")[1])))
    assert [row["fleet"] for row in listed] == [
        row["fleet"] for row in json.loads(bench("list", "--json")[1])
    ]
    status, out, _ = bench("cost", "nio", "huawei", "--csv", *FEW)
    nio, huawei = csv.DictReader(io.StringIO(out))
    (row,) = json.loads(bench("cost", "nio", "--json", *FEW)[1])
    assert status == 0
    for name in ("delivered_eflops", "delivered_eflops_p5", "capex_rmb", "rmb_per_pflop_day_p95"):
        assert float(nio[name]) == row[name]
    assert nio["chain"].startswith("nominal → datasheet 0.975 (published); datasheet → scaled 0.5")
    assert (huawei["capex_rmb"], huawei["parts"]) == ("", f"{A800}; huawei-ascend-910b")


def test_identical_seeds_give_identical_output(bench):
    few = "cost", "--json", "--draws", 1_000, "--seed"
    assert bench(*few, 7)[1] == bench(*few, 7)[1]
    assert bench(*few, 7)[1] != bench(*few, 8)[1]


def test_inputs_are_set_by_flag(bench):
    flags = ["--price", f"{A800}=900000..950000", "--assume", "pue=1.2", "--assume", "busy_share=0.5"]
    (row,) = json.loads(bench("cost", "nio", *flags, "--json", *FEW)[1])
    assert row["price"]["source"] == "given by --price"
    assert row["capex_rmb"] == pytest.approx(546.875 * 925_000)
    assert row["inputs"]["pue"]["value"] == 1.2
    assert row["inputs"]["busy_share"]["basis"] == "assumed"


def test_inputs_are_set_by_file(bench, tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text(
        '[[assumption]]\nname = "depreciation_years"\nvalue = 4\nas_of = "2026-11"\nsource = "our books"\n'
        '[[derate]]\nid = "ours"\nfrom = "datasheet"\nto = "scaled"\nvalue = 0.5\nlow = 0.4\nhigh = 0.6\n'
        f'law = "uniform"\nparts = ["{A800}"]\nunasked = true\nas_of = "2026-11"\nsource = "a pilot"\n'
    )
    (row,) = json.loads(bench("cost", "nio", "--fleets", mine, "--json")[1])
    assert row["depreciation_rmb_per_year"] == pytest.approx(row["full_capex_rmb"] / 4, rel=1e-6)
    assert row["delivered_eflops"] == pytest.approx(1.4 * 0.975 * 0.5)
    assert row["chain"][-1]["provenance"] == "assumed"


def test_goodput_is_added_on_request(bench):
    (row,) = json.loads(bench("cost", "nio", "--goodput", "--json")[1])
    assert (row["reaches"], row["not_yet"], row["chain"][-1]["provenance"]) == ("goodput", [], "modelled")
    assert "training, interruptions included, modelled" in row["sentence"]


def test_validate_prints_each_error_and_is_honest_where_the_chain_misses(bench):
    status, out, err = bench("validate", "--details")
    said = " ".join(out.split())
    assert (status, err) == (0, "")
    for text in ("h100-7b-x8-from-its-gemm", "+18.0%", "+23.8%", "-20.0%", "measure the part and the job",
                 "23.8% from one part to another"):  # fmt: skip
        assert text in said
    rows = json.loads(bench("validate", "--json")[1])
    assert {"id", "predicted", "published", "error", "bound", "passed"} <= rows[0].keys()
    assert len(bench("validate", "--csv")[1].splitlines()) == len(rows) + 1


def test_validate_leaves_each_family_of_runs_out_and_holds_the_errors_to_bounds(bench):
    assert bench("validate")[1].startswith("Of runs that it hasn't seen, the model predicts half within 8.7%")
    status, out, err = bench("validate", "--details")
    said = " ".join(out.split())
    assert (status, err) == (0, "")
    for text in (
        "median error",
        "runs inside the 90 % interval",
        "megascale",
        "mt-nlg",
        "mixture of experts",
    ):
        assert text in said
    rows = {row["id"]: row for row in json.loads(bench("validate", "--json")[1])}
    assert rows["mfu-median-error"]["value"] <= rows["mfu-median-error"]["bound"] == 0.10
    assert rows["mfu-runs-inside"]["value"] >= rows["mfu-runs-inside"]["bound"] == 0.80
    assert rows["mfu-median-width"]["value"] <= rows["mfu-median-width"]["bound"] == 0.60
    assert rows["mfu-family-foundry"]["runs"] > 100
    assert len({tuple(row) for row in rows.values()}) == 1  # the same columns in every row, for --csv
    status, _, err = bench("validate", "--bound", 0.05)
    assert status == 1
    assert "median error 8." in err


def test_derate_prints_three_points_of_an_mfu(bench):
    asked = ("derate", "--part", "A800", "--devices", 1024, "--params", "7e9", "--context", 4096)
    status, out, err = bench(*asked)
    assert (status, err) == (0, "")
    assert out.startswith("MFU 55.2% of the datasheet's dense bf16 peak (nine runs in ten: 44.")
    found = json.loads(bench(*asked, "--json")[1])
    assert 0 < found["p5"] < found["p50"] < found["p95"] < 1
    assert (found["convention"], found["stack"], found["year"]) == ("megatron", "tuned", 2024)
    assert found["n_runs"] > 400
    stock = json.loads(bench(*asked, "--stack", "off-the-shelf", "--json")[1])
    assert stock["p50"] < found["p50"]
    assert len(bench(*asked, "--csv")[1].splitlines()) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "--part: needed"),
        (("--part", "A800"), "--devices: needed"),
        (("--part", "A800", "--devices", 0), "--devices"),
        (("--part", "A800", "--devices", 8, "--params", "nan"), "--params"),
        (("--part", "A800", "--devices", 8, "--context", -1), "--context"),
        (("--part", "A800", "--devices", 8, "--stack", "best"), "--stack"),
        (("--part", "A800", "--devices", 8, "--precision", "fp8"), "no fp8 rating"),
        (("--part", "A800", "--devices", 8, "--convention", "mine"), "--convention"),
        (("--part", "EPYC 9354", "--devices", 8), "EPYC"),
    ],
)
def test_derate_refuses_nonsense_with_2_and_one_sentence(bench, given, said):
    status, out, err = bench("derate", *given)
    assert (status, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_validate_past_a_bound_is_1_with_what_missed(bench):
    status, out, err = bench("validate", "--bound", 0.2)
    assert status == 1
    assert "NO" in out
    assert err == "bench: 1 of 13 checks miss their bound: h100-30b-x8-from-its-gemm +23.8% (bound 20.0%)\n"
    assert bench("validate", "--bound", 0.2, "--json")[0] == 1


UNUSABLE = {
    "an unknown fleet": (["cost", "byd"], "no such fleet; got 'byd'; expected tesla-2024-q3, "),
    "an unknown derate": (["cost", "--derate", "nope"], "--derate: no such published derate; got 'nope'"),
    "NaN EFLOPS": (["cost", "--eflops", "nan", "--part", A800], "--eflops: not a size; got nan"),
    "negative EFLOPS": (["cost", "--eflops", "-1", "--part", A800], "--eflops: not a size; got -1.0"),
    "an unknown part": (["cost", "--part", "nvidia-a801"], "isn't the name of a part in the registry"),
    "a file that isn't there": (
        ["list", "--fleets", "gone.toml"],
        "gone.toml: a file of fleets can't be read",
    ),
    "a malformed file": (
        ["cost", "--fleets", "bad.toml"],
        "bad.toml: the value of fleet[No Id].id can't be used",
    ),
    "a loss counted twice": (
        ["cost", "nio", "--derate", "a100-sxm-80gb-scaled-7b-x8", "--derate", "h100-scaled-8b-x128-from-x8"],
        "counts a loss twice; got 'datasheet → scaled (a100-sxm-80gb-scaled-7b-x8) and step → scaled",
    ),
    "two formats": (["cost", "--json", "--csv"], "two formats at once; got '--json and --csv'"),
    "a price without a part": (
        ["cost", "--price", "5"],
        "--price: can't be used; got '5'; expected PART=RMB",
    ),
    "a price twice": (["cost", "--price", "a=1", "--price", "a=2"], "expected PART=RMB, once a name"),
    "a negative price": (["cost", "--price", f"{A800}=-1"], f"--price {A800}: not a number, nor a range"),
    "NaN for an input": (["cost", "--assume", "pue=nan"], "--assume pue: not a number, nor a range"),
    "an unknown input": (["cost", "--assume", "pew=1"], "--assume: a value that can't be used; got 'pew=1'"),
    "too few draws": (["cost", "--draws", "3"], "--draws: not a number of draws; got 3"),
    "no bound": (["validate", "--bound", "nan"], "--bound: not a bound; got nan"),
    "a run that isn't there": (["cost", "--run", "gone"], "no such run; got 'gone'"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_input_is_2_and_one_sentence(bench, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text(
        '[[fleet]]\nid = "No Id"\nname = "x"\nas_of = "2026"\nsource = "x"\ncards = 1\n'
    )
    arguments, sentence = UNUSABLE[kind]
    status, out, err = bench(*arguments)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("bench: ")
    assert sentence in line


def test_the_group_explains_its_commands(bench):
    out = bench("--help")[1]
    commands = {"list", "cost", "derate", "validate", "goodput", "audit"}
    assert commands <= set(re.findall(r"^  (\w+) ", out, re.MULTILINE))
    for flag in ("--run", "--results", "--derate", "--goodput", "--eflops", "--part", "--price", "--assume",
                 "--draws", "--seed", "--fleets", "--json", "--csv"):  # fmt: skip
        assert flag in bench("cost", "--help")[1]


@pytest.mark.process
def test_bench_fleet_imports_neither_torch_nor_pandas(modules_after, cpu_run):
    costs = ("cost", "--run", cpu_run, *FEW), ("cost", "--goodput", "--csv", *FEW)
    commands = (*costs, ("list", "--json"), ("validate",))
    loaded = modules_after(*(("fleet", *command) for command in commands))
    assert "nameplate.fleet.validation" in loaded
    assert not {"torch", "pandas"} & loaded


@pytest.mark.process
def test_importing_fleet_loads_nothing_heavy():
    program = (
        "import sys, nameplate.fleet; print({'torch', 'pandas', 'numpy', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
