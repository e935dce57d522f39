"""Every screen for a person, by the command that prints it: what tests of all screens look at."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from gpu_seen import IDENTITY, make_seen
from nameplate.base.messages import message
from nameplate.compare import compare
from nameplate.compare.simulated_pairs import compare_simulated_pairs
from nameplate.device.cpu import rate
from nameplate.device.identity import CpuIdentity, CudaIdentity
from nameplate.device.survey import Survey, SurveyedDevice, find_cpu_obstacles
from nameplate.fleet.audit import audit
from nameplate.fleet.catalogues import load_shipped
from nameplate.fleet.gaps import list_cards
from nameplate.fleet.goodput import estimate_goodput, load_goodput_file
from nameplate.fleet.mfu import TrainingSetup, estimate_mfu
from nameplate.fleet.mfu_study import study_mfu
from nameplate.fleet.ownership import own
from nameplate.fleet.plan import afford, meet
from nameplate.fleet.price import cost
from nameplate.fleet.site import fill_site
from nameplate.fleet.training import train
from nameplate.fleet.validation import load_mfu_bounds, validate, validate_goodput
from nameplate.models.load import load_model
from nameplate.record import SearchSummary
from nameplate.report.compare import compare_view
from nameplate.report.devices import devices_document, devices_view
from nameplate.report.fleet.audit import audit_view
from nameplate.report.fleet.cards import cards_view
from nameplate.report.fleet.catalogue import list_rows, list_view
from nameplate.report.fleet.costs import cost_view
from nameplate.report.fleet.goodput import goodput_view
from nameplate.report.fleet.mfu import derate_view
from nameplate.report.fleet.ownership import ownership_view
from nameplate.report.fleet.plan import needs_view, purchases_view, training_view
from nameplate.report.fleet.site import sites_view
from nameplate.report.fleet.validation import goodput_validation_view, validation_view
from nameplate.report.labels import Labels
from nameplate.report.listing import list_runs, list_table, suites_view
from nameplate.report.models import model_document, model_view
from nameplate.report.run import make_report
from nameplate.report.sections.best_shape import search_results_table
from nameplate.report.selftest import (
    cards_table,
    describe_failures,
    describe_unpassed,
    pairs_table,
    products_table,
    proof_table,
    readings_table,
    repeated_table,
    search_table,
    silicon_table,
    simulated_table,
)
from nameplate.report.specs import part_document, part_view, parts_view
from nameplate.report.view import View
from nameplate.selftest.contenders import NORMALIZED, RAW
from nameplate.selftest.draws import simulate_cards
from nameplate.selftest.gpu.checks import check as proof_checks
from nameplate.selftest.gpu.seen import Seen
from nameplate.selftest.repeat import repeat
from nameplate.selftest.search import Tried, prove_search, summarize
from nameplate.selftest.silicon import check
from nameplate.selftest.simulate import simulate
from nameplate.silicon.peak import Peak, Silicon
from nameplate.specs.rating import rate_part
from nameplate.specs.registry import load_registry
from nameplate.store.find import Library
from nameplate.store.folder import read_run
from nameplate.store.manifest import Expected
from nameplate.suite import find_suite, list_suite_names
from nameplate.telemetry.gpu import GpuFacts, describe_problems

ROOT = Path(__file__).parents[1]
COMPARED = ROOT / "tests" / "data" / "compare"
PUBLISHED = ROOT / "results" / "intel-emerald-rapids" / "20261122T165536-standard-1901"
A800, H100 = "nvidia-a800-sxm4-80gb", "nvidia-h100-sxm5-80gb"
FEW = {"draws": 1_000}


def runs_of(a800_run):
    """A run of one A800, an unfinished one of two with warnings that name things, and a published one."""
    text = " see `bench run --resume 'my runs/20261122T120000-x'`, /data/node-17/trace.json, cuda:1"
    missing = Expected(case="matmul/int8/128x14336x4096-nt/normal/rotating/sustained/torch", device="cuda:1")
    run = a800_run(1.0, 0.9, text=text, run="20261122T120000-standard-b800")
    manifest = run.manifest.model_copy(update={"cases": (*run.manifest.cases, missing)})
    unfinished = replace(run, folder=Path("my runs") / run.id, manifest=manifest, finished=False)
    return [a800_run(), unfinished, read_run(PUBLISHED)]


def shows(a800_run):
    """`bench show` and `bench run`: several runs side by side, then each by itself."""
    runs = runs_of(a800_run)
    for number, view in enumerate(make_report(runs).views):
        yield f"show {number}", view


@cache
def validated():
    """What `bench fleet validate` finds: figures and codes, the same in every language."""
    return study_mfu(load_mfu_bounds()), validate()


def fleet_views():
    """`bench fleet …`, by few draws."""
    fleets, cards, costs = list_rows(load_shipped()), list_cards(), cost(**FEW)
    yield "fleet list", list_view(fleets)
    yield "fleet list --details", list_view(fleets, details=True)
    yield "fleet cards", cards_view(cards)
    yield "fleet cards --details", cards_view(cards, details=True)
    yield "fleet cards PART", cards_view(list_cards(("P800", "910B1", "H20")))
    yield "fleet cost", cost_view(costs)
    yield "fleet cost --details", cost_view(costs, details=True)
    yield (
        "fleet own",
        ownership_view([*own("nio-2024-10", **FEW), *own(part="nvidia-h20-96gb", rent="1..2", **FEW)]),
    )
    yield "fleet cost, goodput", cost_view(cost(["nio-2024-10"], goodput=True, **FEW))
    yield "fleet plan --eflops", needs_view(meet(10, (A800, H100), **FEW))
    yield "fleet plan --site-mw", sites_view(fill_site(20, (A800, H100), **FEW))
    yield "fleet plan --budget-rmb", purchases_view(afford(1e9, (A800, H100), **FEW))
    asked = {"parameters": "7e9", "hours": "10000", "every_days": 7}
    yield "fleet plan --fleet", training_view(train(fleet=["nio-2024-10", "huawei-2024-10"], **asked, **FEW))
    trained = train(part=[A800], **asked, **FEW)
    yield "fleet plan --part", training_view(trained)
    yield "fleet plan --details", training_view(trained, details=True)
    yield "fleet goodput", goodput_view([estimate_goodput(size) for size in load_goodput_file().sizes])
    yield "fleet goodput --validate", goodput_validation_view(validate_goodput())
    study, chain = validated()
    yield "fleet validate", validation_view(study, chain)
    yield "fleet validate --details", validation_view(study, chain, details=True)
    experts = TrainingSetup(671e9, 4096, 37e9, "fp8", "off-the-shelf", 2035)
    yield "fleet derate", derate_view(estimate_mfu(H100, 20_000, experts))
    audited = audit()
    yield "fleet audit", audit_view(audited)
    yield "fleet audit --details", audit_view(audited, details=True)


CPU = CpuIdentity(
    name="AMD EPYC",
    architecture="x86_64",
    logical_cpus=4,
    usable_cores=2.0,
    parallel_speed=0.6,
    threads=1,
    quota_cpus=1.5,
    affinity_cpus=(0, 1, 2, 3),
    reported_mhz=2300.0,
    measured_mhz=2900.0,
    memory_bytes=1 << 30,
    blas="MKL",
    onednn="oneDNN",
    instruction_set="AVX2",
    thread_settings={"OMP_WAIT_POLICY": "PASSIVE"},
)


def gpu(index, **facts):
    """An A800 with what is said of its facts."""
    uuid = f"GPU-a8000000-0000-4000-{index:04}"
    told = {"driver": "550.90.07", "power_limit_w": 300.0, "max_sm_clock_mhz": 1410.0, "ecc_mode": True}
    identity = CudaIdentity(name="NVIDIA A800-SXM4-80GB", index=index, uuid=uuid, **told)
    rated = rate_part(load_registry().parts[A800], "PCI id 10de:20f3, 108 SMs")
    return SurveyedDevice(
        f"cuda:{index}", identity, rated, tuple(describe_problems(GpuFacts(index=index, uuid=uuid, **facts)))
    )


def devices():
    """`bench devices`: a GPU, one with faults in its settings, a CPU with all that can be in its way."""
    obstacles = tuple(find_cpu_obstacles(CPU, 9.0, (90.0, 10.0)))
    limits = {"persistence_mode": False, "power_limit_w": 300.0, "default_power_limit_w": 400.0}
    seen = (gpu(0), gpu(1, **limits), SurveyedDevice("cpu", CPU, rate(CPU), in_the_way=obstacles))
    return devices_view(
        devices_document(Survey(seen, "2.13.0+cu128", nvml_absent="NVML_ERROR_NOT_SUPPORTED: x"))
    )


PEAK = Peak(
    loop="int8-avx512-zmm",
    instruction="VPDPBUSD zmm",
    dtypes=("int8",),
    tflops=0.9,
    tflops_low=0.89,
    tflops_high=0.91,
    clock_mhz=3500.0,
    core_gflops=450.0,
    core_clock_mhz=3500.0,
    flop_per_cycle=128.0,
    parallel_share=1.0,
)
SILICON = Silicon(cores=2.0, peaks=(PEAK,), failed={"int8-amx": message("silicon_illegal")})


NOTHING_SEEN = Seen(device="cuda:1", identity=IDENTITY, measured=False, made="2026-11-29")


@cache
def simulated():
    """What is the same in every language of what self-tests find: cards, pairs, the proof of the search."""
    cards = simulate_cards(1, ["contexts that are poisoned"], workers=0)
    return cards, compare_simulated_pairs(2), prove_search(4)


def selftests():
    """`bench selftest`, simulated, repeated, on a CPU and on a GPU, without the lines beside the tables."""
    rows = simulate(1, ["steady", "heavy right tail"], workers=0)  # its failures are sentences
    cards, pairs, proof = simulated()
    peers = {"one": lambda number: {"one": 2.0 + number % 2}}
    repeated = repeat(6, lambda number: {RAW: 1 + number % 2, NORMALIZED: 1 + number % 2 / 9}, peers)
    goals = tuple(goal.describe() for goal in repeated.goals)
    checked = check(SILICON, SILICON, {"int8-avx512-zmm": 256.0}, {"int8": ("1024x1024x1024", 1.0)})
    unknown = proof_checks(NOTHING_SEEN)
    tables = (
        *(simulated_table(rows), readings_table(rows), cards_table(cards), repeated_table(repeated)),
        *(silicon_table(checked), products_table(checked)),
        proof_table(proof_checks(make_seen()), "cuda:0", "NVIDIA Test"),
        proof_table(unknown, "cuda:1", "NVIDIA Test"),
    )
    tables = (*tables, pairs_table(pairs), search_table(proof))
    problems = (
        *describe_failures(rows),
        *checked.failures,
        *summarize("s", [Tried(0.5, 0.5, 0.0)]).failures,
        *describe_unpassed(unknown),
    )
    return View(title="", tables=tables, advice=goals, problems=problems)


def searched():
    """Records of a search, as if the published run were one of suite ceiling."""
    products = [record for record in read_run(PUBLISHED).records if record.workload == "matmul"]
    found = SearchSummary(shapes=4356, seen=120, cost_s=9.0, grid_s=400.0, unseen_gain=0.03)
    unknown = found.model_copy(update={"unseen_gain": None})
    return [
        each.model_copy(update={"search": search})
        for each, search in zip(products, (found, unknown), strict=False)
    ]


def other_views():
    """What isn't of fleets."""
    yield "devices", devices()
    known = load_registry()
    yield "specs", parts_view([part_document(part) for part in known.parts.values()])
    yield "specs --model", model_view(model_document(load_model("mixtral-8x7b"), (4096,), shapes=True))
    yield "specs --model at two", model_view(model_document(load_model("vit-l-16"), (197, 577)))
    yield "specs NAME", part_view(part_document(known.parts["nvidia-a800-pcie-80gb"]))
    suites = {name: find_suite(name).description for name in list_suite_names()} | {
        "somebodys-suite": "x-1-" * 9
    }
    times = {"budget_s": 60, "gpu_budget_s": 300}
    rows = [{"suite": name, **times, "description": said} for name, said in suites.items()]
    yield "suites", suites_view(rows)
    runs, _unreadable = list_runs(Library((PUBLISHED.parents[1], COMPARED)))
    yield "list", View(title="", tables=(list_table(runs),))
    for base, new in (("base", "slower"), ("base", "broken"), ("quiet-base", "other-torch")):
        yield f"compare {base} {new}", compare_view(compare(COMPARED / base, COMPARED / new))
    files = [COMPARED / "pytest-benchmark" / name for name in ("base.json", "slower.json")]
    yield "compare pytest-benchmark", compare_view(compare(*files))
    yield "selftest", selftests()
    yield "best shapes", View(title="", tables=(search_results_table(searched(), Labels({})),))


def all_screens(a800_run):
    """Every screen by its name, in the language that is spoken."""
    return dict([*shows(a800_run), *fleet_views(), *other_views()])
