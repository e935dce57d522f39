"""The loops' machine code: what it computes, and that the sources assemble to it."""

from __future__ import annotations

import platform
import re
import struct
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from arm_emulator import WHY_NOT, emulate
from nameplate.device.host import read_processor
from nameplate.silicon import child
from nameplate.silicon.loops import find_loops, load_loops

ROOT = Path(__file__).parents[2]
DATA = ROOT / "src/nameplate/silicon/data"
LOOPS = load_loops()
HERE = find_loops(platform.machine(), read_processor().flags) if sys.platform == "linux" else ()
sys.path.insert(0, str(ROOT / "scripts"))

import assemble_loops  # noqa: E402

# ---- the data ----


def listing(architecture):
    """The shipped disassembly: each loop's instructions as (offset, text)."""
    text = (DATA / f"{architecture}.txt").read_text(encoding="utf-8")
    blocks = re.split(r"^(\S+):\n", text, flags=re.M)[1:]
    return {
        name: [(int(at, 16), what) for at, what in re.findall(r"^  ([0-9a-f]+): (.+)$", body, re.M)]
        for name, body in zip(blocks[::2], blocks[1::2], strict=True)
    }


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.name)
def test_a_turn_has_the_instructions_that_its_flop_are_counted_by(loop):
    """FLOP a turn stand and fall with this count: in the body, nothing but multiply-adds and the counter."""
    lines = listing(loop.architecture)[loop.name]
    mnemonic, _, kind = loop.instruction.casefold().partition(" ")
    jump = "jne" if loop.architecture == "x86_64" else "b.ne"
    jumps = [(at, int(what.split()[1].removeprefix("0x"), 16)) for at, what in lines if what.startswith(jump)]
    (first, start) = jumps[0]
    body = [what for at, what in lines if start <= at < first]
    multiply_adds = [what for what in body if what.removeprefix("{vex} ").startswith(mnemonic + " ")]
    assert len(multiply_adds) == loop.per_turn
    assert len(body) - len(multiply_adds) == 1  # the turns' counter
    register = {"ymm": "%ymm", "zmm": "%zmm", "": "%tmm"}.get(kind, kind.removeprefix("v"))
    assert all(register in what for what in multiply_adds)
    # Accumulators: as many as there are registers, so that none waits for another.
    sums = {re.split(r"[ ,]", what)[-1 if "%" in what else 1] for what in multiply_adds}
    assert len(sums) == (4 if loop.tiles else loop.per_turn)


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.name)
def test_the_chain_beside_a_loop_has_fifty_adds(loop):
    adds = [
        what
        for _, what in listing(loop.architecture)[loop.name]
        if what in ("add %rdx,%rax", "add x14, x14, x15")
    ]
    assert len(adds) == 50


def test_flop_per_instruction_follow_from_the_width():
    """Bits of the register ÷ bits of an operand, two FLOP each; a dot product of n pairs does n of them."""
    bits = {"fp64": 64, "fp32": 32, "bf16": 16, "fp16": 16, "int8": 8}
    for loop in LOOPS:
        if loop.tiles:  # 16 × 16 sums of 64 bytes each
            expected = 2 * 16 * 16 * 64 * 8 // bits[loop.operands]
        elif loop.name == "fp16-neon-long":  # half of the register's halves
            expected = 128 // 16
        elif loop.instruction in ("BFMMLA v.4s", "SMMLA v.4s"):  # 2 × 2 sums of half a register each
            expected = 2 * 2 * 2 * 64 // bits[loop.operands]
        else:
            width = {"ymm": 256, "zmm": 512}.get(loop.instruction.split()[1], 128)
            expected = 2 * width // bits[loop.operands]
        assert loop.flop == expected, loop.name


@pytest.mark.parametrize("of", assemble_loops.TABLES)
@pytest.mark.parametrize("architecture", assemble_loops.ARCHITECTURES)
@pytest.mark.process
def test_the_sources_assemble_to_the_shipped_bytes(architecture, of):
    prefix = assemble_loops.tools_prefix(architecture)
    if prefix is None:
        pytest.skip(f"no binutils for {architecture}")
    code, disassembly = assemble_loops.assemble(architecture, prefix, of)
    path = assemble_loops.TABLES[of]
    table = tomllib.loads(path.read_text(encoding="utf-8"))["loop"]
    shipped = {each["name"]: each["code"] for each in table if each["architecture"] == architecture}
    assert {name: each.hex() for name, each in code.items()} == shipped
    if of:  # of these only the bytes are read; the disassembly is for people
        return
    assert listing(architecture).keys() == shipped.keys()
    if (DATA / f"{architecture}.txt").read_text(encoding="utf-8") != disassembly:
        # Another objdump may spell an instruction differently; offsets and count are the code's.
        offsets = re.findall(r"^  ([0-9a-f]+): ", disassembly, re.M)
        assert offsets == [f"{at:x}" for lines in listing(architecture).values() for at, _ in lines]


def test_the_generator_refuses_a_loop_that_the_table_lacks():
    with pytest.raises(SystemExit, match="0 loops named fp32-sve; expected 1"):
        assemble_loops.with_code((DATA / "loops.toml").read_text(encoding="utf-8"), {"fp32-sve": b"\xc3"})


# ---- which loops a machine runs ----


@pytest.mark.parametrize(
    ("architecture", "flags", "names"),
    [
        ("x86_64", "sse2", set()),
        ("x86_64", "avx2", set()),  # without fma
        ("x86_64", "avx2 fma", {"fp32-avx2", "fp64-avx2"}),
        ("AMD64", "avx2 fma avx_vnni", {"fp32-avx2", "fp64-avx2", "int8-avx-vnni"}),
        ("x86_64", "amx_bf16", set()),  # a guest that hides the tiles themselves
        ("x86_64", "amx_tile amx_int8", {"int8-amx"}),
        ("x86_64", "avx512_bf16", {"bf16-avx512-zmm"}),
        ("aarch64", "asimd asimdhp", {"fp32-neon", "fp64-neon", "fp16-neon"}),
        ("arm64", "asimddp", {"int8-neon-dot"}),
        ("aarch64", "avx2 fma", set()),
        ("riscv64", "asimd", set()),
    ],
)
def test_a_machine_runs_the_loops_whose_flags_it_shows(architecture, flags, names):
    assert {loop.name for loop in find_loops(architecture, flags.split())} == names


# ---- what they compute ----


def operands_of(kind):
    """The operands as numbers: int8 by its bytes, unsigned and signed."""
    raw = child.make_operands(kind)
    if kind == "bf16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return np.frombuffer(raw, {"fp64": "f8", "fp32": "f4", "fp16": "f2", "int8": "i1"}[kind]).astype(
        np.float64
    )


def expected_sums(loop, times):
    """What every accumulator holds after `times` multiply-adds, in double precision."""
    a = operands_of(loop.operands)
    if loop.tiles:
        # Tile A has 16 rows; tile B's rows hold neighbouring elements of a column side by side.
        group = 4 if loop.operands == "int8" else 2
        a_MK = a.reshape(16, -1)
        b_KN = a.reshape(16, 16, group).transpose(0, 2, 1).reshape(16 * group, 16)
        return (times * a_MK @ b_KN).ravel()
    bits = {"ymm": 256, "zmm": 512}.get(loop.instruction.split()[-1], 128)
    size = {"fp64": 64, "fp32": 32, "bf16": 16, "fp16": 16, "int8": 8}[loop.operands]
    a = a[: bits // size]
    if loop.instruction.startswith("VPDPBUSD"):
        return times * (np.where(a < 0, a + 256, a) * a).reshape(-1, 4).sum(axis=1)  # unsigned × signed
    if loop.instruction.startswith("VDPBF16PS"):
        return times * (a * a).reshape(-1, 2).sum(axis=1)
    if loop.instruction.startswith("SDOT"):
        return times * (a * a).reshape(-1, 4).sum(axis=1)
    if loop.instruction.startswith(("BFMMLA", "SMMLA")):
        rows = a.reshape(2, -1)
        return times * (rows @ rows.T).ravel()
    if loop.instruction.startswith("FMLAL"):
        return times * (a * a)[:4]
    return times * a * a


def sums_of(loop, results):
    """The accumulators that a loop stored, as numbers, a row each."""
    count = 4 if loop.tiles else loop.per_turn
    kind = {"fp64": "f8", "int8": "i4"}.get(loop.operands, "f4")
    if "fp16_acc16" in loop.dtypes:
        kind = "f2"
    size = 1024 if loop.tiles else {"ymm": 32, "zmm": 64}.get(loop.instruction.split()[-1], 16)
    return np.frombuffer(results[: count * size], kind).astype(np.float64).reshape(count, -1)


TOLERANCE = {"fp64": 1e-12, "fp32": 1e-5, "bf16": 2e-2, "fp16": 2e-2, "int8": 0}


def check_sums(loop, results, turns):
    times = turns * (2 if loop.tiles else 1)  # each tile twice a turn
    found, expected = sums_of(loop, results), expected_sums(loop, times)
    for row in found:
        assert row == pytest.approx(expected, rel=TOLERANCE[loop.operands], abs=TOLERANCE[loop.operands])
    assert np.abs(expected).max() > 0.1  # zeros would agree with anything


@pytest.mark.skipif(not HERE, reason="no loop runs on this machine")
@pytest.mark.parametrize("turns", [1, 3])
def test_the_loops_of_this_machine_compute_what_their_flop_are_counted_for(turns):
    """A multiply-add of another width, or of other operands, would give other sums."""
    for loop in HERE:
        try:
            mapped = child.Loop(bytes.fromhex(loop.code), loop.operands, loop.tiles)
        except OSError as error:
            pytest.skip(f"machine code can't be mapped here: {error}")
        stamps, results = mapped.run(turns, 2, 3)
        assert stamps == sorted(stamps)
        assert len(set(stamps)) > 1
        check_sums(loop, results, 3 * turns)  # accumulators aren't cleared between rounds


@pytest.mark.process
@pytest.mark.skipif(bool(WHY_NOT), reason=str(WHY_NOT))
def test_the_arm_loops_compute_the_same_under_an_emulator(tmp_path):
    loops = [loop for loop in LOOPS if loop.architecture == "aarch64"]
    assert len(loops) == 7
    # The block's head: start, rounds, turns, a factor, where stamps and results go; then both operands.
    block = """
block:
    .quad   0, 2, 3, 1, result + 4096, result
    .space  80
    .incbin "operands"
    .incbin "operands"
"""
    for loop in loops:
        (tmp_path / "operands").write_bytes(child.make_operands(loop.operands))
        out = emulate(tmp_path, bytes.fromhex(loop.code), "ldr x0, =block", block, 4096 + 48)
        check_sums(loop, out[:4096], 6)  # two rounds of three turns
        stamps = struct.unpack("<6Q", out[4096:])
        assert list(stamps) == sorted(stamps)
        assert stamps[0] > 0


@pytest.mark.process
@pytest.mark.skipif(bool(WHY_NOT), reason=str(WHY_NOT))
def test_the_arm_loops_of_memory_move_what_they_say_under_an_emulator(tmp_path):
    """Three passes over a kibibyte: every element is STREAM's, a read's result the XOR of all words."""
    table = tomllib.loads(assemble_loops.TABLES["memory_"].read_text(encoding="utf-8"))["loop"]
    loops = {each["kind"]: bytes.fromhex(each["code"]) for each in table if each["set"] == "neon"}
    b, c = np.random.default_rng(1).standard_normal((2, 256)).astype("<f4")
    s = np.float32(0.75)
    expected = {
        "copy": b, "scale": s * b, "add": b + c, "triad": b + s * c, "write": np.full_like(b, s),
    }  # fmt: skip
    assert loops.keys() == {*expected, "read"}
    (tmp_path / "b").write_bytes(b.tobytes())
    (tmp_path / "c").write_bytes(c.tobytes())
    arguments = """
    ldr     x0, =result
    ldr     x1, =b
    ldr     x2, =c
    mov     x3, #1024
    mov     x4, #3
    fmov    s0, #0.75
"""
    arrays = """
b:  .incbin "b"
c:  .incbin "c"
"""
    for kind, code in loops.items():
        out = emulate(tmp_path, code, arguments, arrays, 1024)
        if kind == "read":
            words = np.bitwise_xor.reduce(np.frombuffer(out, "<u4"))
            assert words == np.bitwise_xor.reduce(b.view("<u4"))
        else:
            assert np.array_equal(np.frombuffer(out, "<f4"), expected[kind]), kind
