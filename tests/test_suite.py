"""Cases and suites: ids, globs, plug-ins good and bad, and what the shipped suites hold."""

from __future__ import annotations

import json
import re
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import pytest

from nameplate import suite as suites
from nameplate.base.errors import InputError
from nameplate.suite import CACHES, FILLS, MOST_IN_TURN, Case, Suite, Target, find_suite, make_groups

CPU = Target("cpu", "amd-zen4", 8 << 30, frozenset({"fp64", "fp32", "bf16"}))
CPU_WITH_FP16 = Target("cpu", "intel-granite-rapids", 8 << 30, frozenset({"fp64", "fp32", "bf16", "fp16"}))
UNKNOWN_CPU = Target("cpu", None, None, frozenset())
GPU = Target("cuda", None, 80 << 30, frozenset())
TARGETS = {"zen4": CPU, "granite rapids": CPU_WITH_FP16, "unknown cpu": UNKNOWN_CPU, "gpu": GPU}
SHIPPED = ("smoke", "quick", "standard")


@dataclass(frozen=True)
class Work:
    """As much of a workload as an id needs."""

    name: str = "matmul"
    dtype: str = "bf16"
    shape: str = "1024x1024x1024"


def suite_of(*cases):
    return Suite("mine", "a test's own", 1.0, lambda target: cases)


def test_an_id_names_every_axis():
    assert Case(Work()).id == "matmul/bf16/1024x1024x1024/normal/warm/-/torch"
    full = Case(Work("copy", "fp32", "64MiB"), "zeros", "flushed", "sustained", "triton")
    assert full.id == "copy/fp32/64MiB/zeros/flushed/sustained/triton"


@pytest.mark.parametrize(
    ("axis", "value", "expected"),
    [
        ("fill", "ones", "normal or uniform or integers or zeros"),
        ("cache", "hot", "warm or flushed or rotating"),
        ("phase", "warm", "burst or sustained"),
    ],
)
def test_an_unknown_point_of_an_axis_is_refused(axis, value, expected):
    with pytest.raises(InputError, match=f"unknown {axis}; got '{value}'; expected {expected}"):
        Case(Work(), **{axis: value})


# ---- groups ----


def numbered(number, **axes):
    return [Case(Work(shape=str(n)), **axes) for n in range(number)]


def shapes(cases):
    return [(name, [case.workload.shape for case in group]) for name, group in make_groups(cases)]


def test_cases_without_a_group_are_grouped_by_fours():
    assert MOST_IN_TURN == 4
    assert shapes(numbered(6)) == [("1", ["0", "1", "2", "3"]), ("2", ["4", "5"])]
    assert make_groups([]) == []


def test_a_named_group_holds_all_cases_that_name_it_and_no_others():
    plain, named = numbered(2), numbered(6, group="mine")
    assert shapes([*plain, *named, *plain]) == [
        ("1", ["0", "1"]),
        ("mine", ["0", "1", "2", "3", "4", "5"]),
        ("3", ["0", "1"]),
    ]
    assert [name for name, _ in make_groups([*numbered(1, group="a"), *numbered(1, group="b")])] == ["a", "b"]


def test_a_burst_is_alone_unless_its_sustained_case_names_its_group():
    burst, sustained = numbered(1, phase="burst"), numbered(2, phase="sustained")
    assert shapes([*sustained, *burst, *sustained]) == [("1", ["0", "1"]), ("2", ["0"]), ("3", ["0", "1"])]
    assert shapes([*burst, *burst]) == [("1", ["0"]), ("2", ["0"])]
    both = [Case(Work(), phase=phase, group="soak") for phase in ("burst", "sustained")]
    assert [len(group) for _, group in make_groups(both)] == [2]


def test_a_group_is_no_part_of_an_id():
    assert Case(Work(), group="mine").id == Case(Work()).id


def test_groups_have_names_of_their_own():
    mine, other = numbered(2, group="mine"), numbered(1)
    names = [name for name, _ in make_groups([mine[0], *other, mine[1]])]
    assert len(set(names)) == 3


def test_only_its_own_sustained_case_may_share_a_bursts_group():
    burst, sustained = (Case(Work(), phase=phase, group="idle") for phase in ("burst", "sustained"))
    assert suite_of(burst, sustained).cases(CPU) == [burst, sustained]
    other = Case(Work(dtype="fp32"), phase="sustained", group="idle")
    with pytest.raises(
        InputError, match=f"group idle: a case can't be measured in .*; got '{other.id}'; expected"
    ):
        suite_of(burst, other).cases(CPU)


# ---- suites ----


def test_a_glob_is_over_the_whole_id_and_crosses_slashes():
    cases = [
        Case(Work(dtype=dtype), cache=cache) for dtype in ("bf16", "fp32") for cache in ("warm", "flushed")
    ]
    chosen = suite_of(*cases).cases(CPU, "matmul/*/warm/*")
    assert [case.workload.dtype for case in chosen] == ["bf16", "fp32"]
    assert suite_of(*cases).cases(CPU, "*fp32*") == cases[2:]
    assert suite_of(*cases).cases(CPU) == cases


@pytest.mark.parametrize("glob", ["bf16", "matmul/bf16", "MATMUL/*", ""])
def test_a_glob_that_leaves_nothing_says_what_an_id_looks_like(glob):
    case = Case(Work())
    sentence = (
        f"--only: no case of suite mine matches; got '{glob}'; expected a glob over ids such as {case.id}"
    )
    with pytest.raises(InputError, match=re.escape(sentence)) as refused:
        suite_of(case).cases(CPU, glob)
    assert refused.value.exit_status == 2


def test_a_suite_without_cases_is_refused():
    with pytest.raises(InputError, match="expected a suite with cases"):
        suite_of().cases(CPU)


def test_two_cases_with_one_id_are_refused():
    with pytest.raises(
        InputError, match=re.escape(f"suite mine: two cases share an id; got '{Case(Work()).id}'")
    ):
        suite_of(Case(Work()), Case(Work(), weight=3.0)).cases(CPU)


def test_twins_are_refused_even_where_the_glob_leaves_them_out():
    other = Case(Work("copy"))
    with pytest.raises(InputError, match="two cases share an id"):
        suite_of(Case(Work()), Case(Work()), other).cases(CPU, "copy/*")


def test_an_unknown_suite_names_those_there_are():
    with pytest.raises(
        InputError, match=r"unknown suite; got 'smok'; expected .*quick or .*smoke"
    ) as refused:
        find_suite("smok")
    assert refused.value.exit_status == 2


PLUGIN = """
from nameplate.suite import Suite
SUITE = Suite({name!r}, "a third party's", 3.0, lambda target: [])
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution that exists only on sys.path: a module and an entry point for it."""

    def put(distribution, name, source, module=None):
        module = module or f"{distribution.replace('-', '_')}_suite"
        folder = tmp_path / distribution
        info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[nameplate.suites]\n{name} = {module}:SUITE\n")
        if source is not None:
            (folder / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, module, raising=False)

    return put


def test_a_third_partys_suite_is_found_by_its_entry_point(install):
    install("their-suites", "theirs", PLUGIN.format(name="theirs"))
    assert "theirs" in suites.list_suite_names()
    assert find_suite("theirs").description == "a third party's"


def test_a_suite_answers_to_the_name_it_was_found_by(install):
    # A run stores the suite's own name, and `--resume` looks for an entry point called so.
    install("their-suites", "theirs", PLUGIN.format(name="another"))
    found = None
    with suppress(InputError):  # to refuse it is as good
        found = find_suite("theirs")
    assert found is None or found.name == "theirs"


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("raise RuntimeError('needs a licence')", "RuntimeError: needs a licence"),
        ("def broken(:", "SyntaxError"),
        ("OTHER = 1", "AttributeError"),
        (None, "ModuleNotFoundError"),
    ],
)
def test_a_broken_suite_says_whose_it_is_and_hurts_no_other(install, source, error):
    install("broken-suites", "broken", source)
    sentence = f"suite broken (broken_suites_suite:SUITE): can't be loaded: {error}"
    with pytest.raises(InputError, match=re.escape(sentence)) as refused:
        find_suite("broken")
    assert refused.value.exit_status == 2
    assert {"broken", *SHIPPED} <= set(suites.list_suite_names())
    assert find_suite("smoke").name == "smoke"


def test_what_is_no_suite_is_refused(install):
    install("odd-suites", "odd", "SUITE = {'name': 'odd'}")
    sentence = "suite odd (odd_suites_suite:SUITE): isn't one; got 'dict'; expected a Suite"
    with pytest.raises(InputError, match=re.escape(sentence)):
        find_suite("odd")


def test_a_suite_that_breaks_while_it_makes_its_cases_says_whose_it_is(install):
    install(
        "late-suites",
        "late",
        'from nameplate.suite import Suite\nSUITE = Suite("late", "", 1.0, lambda target: [1 / 0])',
    )
    with pytest.raises(InputError, match=r"late.*ZeroDivisionError"):
        find_suite("late").cases(CPU)


def test_two_packages_that_claim_one_name_are_refused(install):
    install("first-suites", "clash", PLUGIN.format(name="clash"))
    install("second-suites", "clash", PLUGIN.format(name="clash"))
    with pytest.raises(
        InputError, match=r"suite clash is claimed more than once.*first_suites.*second_suites"
    ):
        find_suite("clash")
    assert suites.list_suite_names().count("clash") == 1


def test_nobody_takes_a_shipped_name(install):
    install("their-suites", "smoke", PLUGIN.format(name="smoke"))
    with pytest.raises(InputError, match="suite smoke is claimed more than once"):
        find_suite("smoke")
    assert find_suite("quick").name == "quick"


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_shipped_suite_declares_real_work_once_each(name, target):
    found = find_suite(name)
    assert found.name == name
    cases = found.cases(target)
    assert len({case.id for case in cases}) == len(cases)
    for case in cases:
        assert re.fullmatch(r"[^/\s*?\[]+(/[^/\s*?\[]+){6}", case.id), case.id
        assert case.weight > 0
        assert case.workload.bytes > 0
        assert case.workload.resident_bytes >= case.workload.bytes
        assert (case.workload.flops is None) == (case.workload.convention is None)
        assert case.workload.flops is None or case.workload.flops > 0


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_shipped_suite_covers_matmul_block_and_memory(name, target):
    workloads = {case.workload.name for case in find_suite(name).cases(target)}
    assert {"matmul", "transformer_block"} <= workloads
    assert any(case.workload.flops is None for case in find_suite(name).cases(target))


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("mebibytes", [32, 384, 1152])  # a desktop's last-level cache, two servers'
def test_every_shipped_suite_has_arrays_that_no_cache_holds(name, mebibytes):
    target = replace(CPU, cache_bytes=mebibytes << 20)
    sizes = [
        case.workload.mebibytes for case in find_suite(name).cases(target) if case.workload.flops is None
    ]
    assert sizes
    assert min(sizes) >= mebibytes


EVERY = (*SHIPPED, "soak", "sensitivity", "attention", "block")


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_shipped_suites_groups_have_names_of_their_own_and_a_burst_is_of_one_workload(name, target):
    found = make_groups(find_suite(name).cases(target))
    assert len({group for group, _ in found}) == len(found)
    for _, cases in found:
        if any(case.phase == "burst" for case in cases):
            assert len({replace(case, phase=None).id for case in cases}) == 1


@pytest.mark.parametrize("name", ["attention", "block"])
def test_a_cpus_groups_of_layers_are_long_enough_to_tell_whether_it_has_settled(name):
    """The first group tells, and a CPU stays settled: one of a case or two is over too soon to tell."""
    suite = find_suite(name)
    cases = suite.cases(CPU)
    seconds = suite.budget_s / sum(case.weight for case in cases)
    (_, first), *others = make_groups(cases)
    assert seconds * sum(case.weight for case in first) >= 30
    for group, its in others:
        assert seconds * sum(case.weight for case in its) >= 10, group
    assert min(case.weight for case in cases) * seconds >= 1.5


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_soak_is_one_product_from_idle_for_ten_minutes(target):
    ((_, cases),) = make_groups(find_suite("soak").cases(target))
    assert [case.phase for case in cases] == ["burst", "sustained"]
    assert find_suite("soak").budget_s == 600.0


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_sensitivity_has_every_fill_and_every_cache_state_of_a_product_in_one_group(target):
    found = [cases for _, cases in make_groups(find_suite("sensitivity").cases(target))]
    whole = [cases for cases in found if {case.fill for case in cases} == set(FILLS)]
    assert len(whole) == 2
    for cases in whole:
        assert {case.cache for case in cases} == set(CACHES)
        default, *others = dict.fromkeys(case.workload for case in cases)
        assert default.reduction == "reduced"
        assert [work.reduction for work in others] == (["fp32"] if target.kind == "cuda" else [])


def matching(name, target, glob):
    return [case for case in find_suite(name).cases(target) if fnmatchcase(case.id, glob)]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_smoke_has_the_thousand_cube(target, dtype):
    (case,) = matching("smoke", target, f"matmul/{dtype}/1024x1024x1024/*")
    assert case.workload.flops == 2 * 1024**3


def test_smoke_answers_fp16_in_a_size_that_the_machine_can_bear():
    def edge(target):
        return {case.workload.dimensions["m"] for case in matching("smoke", target, "matmul/fp16/*")}

    assert edge(CPU) == edge(UNKNOWN_CPU) == {256}
    assert edge(CPU_WITH_FP16) == {1024}
    assert edge(GPU) == set()  # its ten seconds hold no more than one dtype of the tensor cores


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_smokes_block_is_an_eighth_as_wide_and_stands_for_no_model(target):
    blocks = matching("smoke", target, "transformer_block/*")
    assert {case.workload.dimensions["d_model"] for case in blocks} == {4096 // 8}
    assert {case.workload.represents for case in blocks} == {None}
    assert len(blocks) == 1  # forward and backward


@pytest.mark.parametrize(("target", "tokens"), [(CPU, 128), (GPU, 4096)], ids=["cpu", "gpu"])
def test_quicks_block_is_the_models_own(target, tokens):
    blocks = matching("quick", target, "transformer_block/*")
    assert {case.workload.dimensions["tokens"] for case in blocks} == {tokens}
    assert {case.workload.dimensions["d_model"] for case in blocks} == {4096}
    assert {case.workload.represents for case in blocks} == {"Llama-3-8B"}
    products = [c for c in matching("quick", target, "matmul/*") if c.workload.represents == "Llama-3-8B"]
    forward = max(block.workload.flops for block in blocks) / 3  # of the training pass
    in_products = sum(case.workload.flops * case.workload.dimensions["times"] for case in products)
    assert 0.8 * forward < in_products <= forward  # the rest is attention


@pytest.mark.parametrize("name", SHIPPED)
def test_a_gpus_products_rotate_buffers_and_a_cpus_are_warm(name):
    assert {case.cache for case in matching(name, GPU, "matmul/*")} == {"rotating"}
    assert {case.cache for case in matching(name, CPU, "matmul/*")} == {"warm"}


def test_a_soak_is_one_process_and_a_longer_suite_has_more_of_them():
    processes = {name: find_suite(name).processes for name in (*SHIPPED, "soak")}
    assert processes == {"smoke": 5, "quick": 5, "standard": 10, "soak": 1}


@pytest.mark.parametrize(("name", "most"), [("smoke", 5), ("quick", 12)])
def test_a_cpus_short_suites_have_few_cases_so_that_each_has_seconds(name, most):
    """Of five processes a case, each with its own set-up; more cases had a tenth of a second in each."""
    cases = find_suite(name).cases(CPU)
    assert len(cases) <= most
    weight = sum(case.weight for case in cases)
    long = [case for case in cases if case.weight / weight * find_suite(name).budget_s >= 1.0]
    assert {case.workload.name for case in long} == {"matmul", "transformer_block", "memory"}


def test_longer_suites_have_longer_budgets():
    budgets = [find_suite(name).budget_s for name in SHIPPED]
    assert budgets == sorted(set(budgets))
    assert budgets[:2] == [10.0, 60.0]


# Seconds of a group of cases on a GPU, before anything is timed: two processes that each load CUDA, and the
# profiler of the first. Cases need so many then, that each of four turns has readings to itself.
GPU_GROUP_S, GPU_CASE_S = 5.0, 1.2


@pytest.mark.parametrize("name", ["quick", "standard", "block", "attention", "step", "ceiling"])
def test_a_gpus_cases_have_the_time_to_be_judged(name):
    """Of 0.4 s a case telemetry can't tell whose its readings are, and most figures are of unknown worth."""
    suite = find_suite(name)
    cases = suite.cases(GPU)
    groups, weight = make_groups(cases), sum(case.weight for case in cases)
    left_s = suite.budget_on("cuda") - GPU_GROUP_S * len(groups)
    # Another library's best product gets figures only where it isn't clearly slower.
    torchs = [case.weight for case in cases if case.backend.startswith("torch") and case.weight > 0.2]
    assert left_s * min(torchs) / weight >= GPU_CASE_S
    assert suite.budget_on("cpu") == suite.budget_s


OF_OTHERS = """
from dataclasses import dataclass
from nameplate.suite import Case, Suite
@dataclass(frozen=True)
class Work:
    name: str = "matmul"
    dtype: str = "bf16"
    shape: str = "8x8x8"
{before}
def generate(target):
    {body}
SUITE = Suite("theirs", {description}, {budget}, {generate}, processes={processes})
"""


@pytest.fixture
def theirs(install):
    """Install a suite of others, called `name`, of which one thing isn't as it should be."""

    def put(name="theirs", **changes):
        whole = {"before": "", "body": "return [Case(Work())]", "description": "''", "budget": "1.0"}
        whole |= {"processes": "5"}
        install("their-suites", name, OF_OTHERS.format(**(whole | {"generate": "generate"} | changes)))
        return name

    return put


BAD_SUITES = {
    "exits 0 at import": ({"before": "raise SystemExit(0)"}, "can't be loaded: SystemExit: 0"),
    "exits 1 at import": ({"before": "import sys; sys.exit(1)"}, "can't be loaded: SystemExit: 1"),
    "raises what isn't an Exception": ({"before": "raise GeneratorExit"}, "can't be loaded: GeneratorExit"),
    "no budget": ({"budget": "None"}, "its budget_s can't be used; expected seconds above 0"),
    "a budget as text": ({"budget": "'60'"}, "its budget_s can't be used; got '60'"),
    "a negative budget": ({"budget": "-1"}, "its budget_s can't be used; got -1"),
    "a budget of 0": ({"budget": "0"}, "its budget_s can't be used; got 0"),
    "a budget of NaN": ({"budget": "float('nan')"}, "its budget_s can't be used; got nan"),
    "an endless budget": ({"budget": "float('inf')"}, "its budget_s can't be used; got inf"),
    "no process": ({"processes": "0"}, "its processes can't be used; got 0; expected a whole number above 0"),
    "half a process": ({"processes": "2.5"}, "its processes can't be used; got 2.5"),
    "processes without end": ({"processes": "10**9"}, "its processes can't be used; got 1000000000"),
    "yes for processes": ({"processes": "True"}, "its processes can't be used; got True"),
    "no description": ({"description": "None"}, "its description can't be used; expected text"),
    "nothing to call": ({"generate": "[1]"}, "its generate can't be used; got [1]; expected a function"),
    "a name with a slash": ({"name": "a/b"}, "its name can't be used; got 'a/b'"),
    "a name that leads out": ({"name": ".."}, "its name can't be used; got '..'"),
}
BAD_CASES = {
    "exits 0": ("raise SystemExit(0)", "can't make its cases: SystemExit: 0"),
    "exits 0 late": ("yield Case(Work()); import sys; sys.exit()", "can't make its cases: SystemExit"),
    "no cases": ("return None", "can't make its cases: TypeError"),
    "not a case": ("return [Work()]", "not a case; got 'Work'; expected a Case"),
    "text": ("return 'ab'", "not a case; got 'str'; expected a Case"),
    "cases without end": ("\n    while True: yield Case(Work())", "too many cases; expected at most 20000"),
    "a weight of 0": ("return [Case(Work(), weight=0)]", "the weight of a case can't be used; got 0"),
    "a weight of NaN": (
        "return [Case(Work(), weight=float('nan'))]",
        "the weight of a case can't be used; got nan",
    ),
    "a negative weight": ("return [Case(Work(), weight=-1)]", "the weight of a case can't be used; got -1"),
    "a weight as text": ("return [Case(Work(), weight='1')]", "the weight of a case can't be used; got '1'"),
    "an endless weight": (
        "return [Case(Work(), weight=1e999)]",
        "the weight of a case can't be used; got inf",
    ),
    "a group that isn't text": ("return [Case(Work(), group=7)]", "the group of a case can't be used; got 7"),
    "a name with a slash": ("return [Case(Work('a/b'))]", "the name of a case can't be used; got 'a/b'"),
    "a dtype with a line break": ("return [Case(Work('a', 'b\\nc'))]", "the dtype of a case can't be used"),
    "a shape that isn't text": (
        "return [Case(Work('a', 'b', 8))]",
        "the shape of a case can't be used; got 8",
    ),
    "no workload": ("return [Case(None)]", "can't make its cases: AttributeError"),
}


@pytest.mark.parametrize(("changes", "said"), BAD_SUITES.values(), ids=BAD_SUITES)
def test_a_suite_that_cant_be_used_names_its_entry_point_and_hurts_no_other(bench, theirs, changes, said):
    name = theirs(**changes)
    result = bench("run", name)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"bench: suite {name} (their_suites_suite:SUITE): {said}")
    assert result.err.count("\n") == 1
    listed = bench("suites", "--json")
    assert listed.status == 0
    assert {"smoke", name} <= {row["suite"] for row in json.loads(listed.out)}


@pytest.mark.parametrize(("body", "said"), BAD_CASES.values(), ids=BAD_CASES)
def test_cases_that_cant_be_used_name_their_entry_point(theirs, body, said):
    with pytest.raises(InputError, match=re.escape(said)) as refused:
        find_suite(theirs(body=body)).cases(CPU)
    assert str(refused.value).startswith("suite theirs (their_suites_suite:SUITE)")


def test_what_a_suite_prints_doesnt_get_into_our_output(bench, theirs):
    theirs(before="print('hello\\x1b[31m'); print('you')")
    result = bench("suites", "--json")
    assert "theirs" in {row["suite"] for row in json.loads(result.out)}
    assert result.err == "bench: suite theirs (their_suites_suite:SUITE) printed: hello[31m you\n"


def test_ctrl_c_in_a_suite_is_ctrl_c(theirs):
    with pytest.raises(KeyboardInterrupt):
        find_suite(theirs(body="raise KeyboardInterrupt")).cases(CPU)


def test_the_memory_suite_has_a_group_for_each_level_that_can_be_told_from_the_one_within():
    caches = {
        "L1d": 64 << 10,
        "L2": 2 << 20,
        "L3": 3 << 20,
    }  # of two cores: half of an L3's share is under two L2
    cpu = replace(CPU, cache_bytes=3 << 20, caches_bytes=caches, cores=2.0)
    found = {}
    for case in find_suite("memory").cases(cpu):
        found.setdefault(case.group, []).append(case.workload)
    assert list(found) == ["levels", "memory", "L1d", "L2"]
    # One kind of every level comes first: a short budget holds all levels before it holds all kinds.
    first = found.pop("levels")
    assert [(work.kind, work.dimensions.get("level")) for work in first] == [
        ("triad", None), ("triad", "L1d"), ("triad", "L2"),
    ]  # fmt: skip
    assert {work.kind for work in found["memory"]} == {"copy", "scale", "add", "read", "write", "strided"}
    for work in first[1:]:
        found[work.level].append(work)
    assert all(len(found[level]) == 6 for level in ("memory", "L1d", "L2"))
    for level, works in list(found.items())[1:]:
        for work in works:
            arrays = {"copy": 2, "scale": 2, "add": 3, "triad": 3, "read": 1, "write": 1}[work.kind]
            assert work.kibibytes * 1024 * arrays <= caches[level] / 4  # half of a core's
            assert work.bytes / work.threads > 2**29
    gpu = find_suite("memory").cases(replace(GPU, caches_bytes={"L2": 50 << 20}))
    assert {"h2d", "d2h"} <= {case.workload.kind for case in gpu}
    (l2,) = [case.workload for case in gpu if case.group == "L2"]
    assert l2.mebibytes * 2**20 < (50 << 20) / 2
