"""Versions of what files hold and of how it is measured, each with its history."""

from __future__ import annotations

from collections.abc import Mapping

# Schema history (of manifest and record lines; store/upgrade.py converts older ones):
#   1  2026-11: first.
#   2  2026-11: more columns (phases, ceilings, CPU time, digest, course); a batch has its round. A line of
#      schema 1 is a line of schema 2 without these.
#   3  2026-11: warnings, reasons, losses and notes are messages, `{"code", "values"}`, instead of English
#      sentences; sentences in older files become messages with the code `text`. Memory work has no FLOPs.
#   4  2026-11: more columns, and more verdicts. A line of schema 3 is a line of schema 4 without these.
#      A CPU's identity has its arithmetic peak (`silicon`), and its library loss is counted from there.
#      `throttled` is heat or a power brake alone; being held at the power limit is `power_capped`.
#      In manifests, a device's rated clock is by dtype.
#   5  2026-11: a case is measured in several processes, and a batch has the number of its own. In older files
#      all batches are of process 1.
#      `measured` is false in records and manifests of simulated devices and twins; an identity has its twin.
#      Intervals are run-to-run where there are several processes; in older
#      files they are those within the one process, as `interval_kind` says.
#   6  2026-11: a block's convention is called by its key in `flops_by_convention`: `megatron` for what was
#      `Megatron`.
SCHEMA = 6
# Method history (raised when a change of timing changes figures; by default methods aren't mixed):
#   1  2026-11: throughput of back-to-back batches after a fixed warm-up; one phase.
#   2  2026-11: cases interleaved in groups, in a process of their own; burst and sustained measured apart;
#      drift and oscillation don't widen intervals.
#   3  2026-11: a case that takes turns launches once, untimed, before each batch, so that its caches are warm
#      whatever ran before; buffer sets rotate from batch to batch; memory is measured on buffer sets that
#      overflow the last-level cache, and has no FLOPs.
#   4  2026-11: what a GPU's host and clock do is measured beside each case; a CPU's arithmetic peak is
#      measured.
#      A CPU's nominal may be measured, and its interval is part of the efficiency's; flushes and arrays
#      of memory follow all of a CPU's last-level cache.
#      The host's share is that of a few launches on an empty queue; a graph's replay is compared with
#      launches beside it. Pilots grow until they fill the device. A burst begins when the clock is up and
#      ends before the first limit, in batches of 5 ms.
#      On a GPU, fp16 and bf16 products add the sums of a split K as torch's default has it, not in fp32.
#      A GPU's ceiling is by the dtype's own rated clock, and work bound by memory has none.
#   5  2026-11: a case is measured in several fresh processes, one after the other, where its suite and time
#      allow. What one of them is enough to find (predictions, calibrations, the check of a result that has
#      the same bits in all) is found in the first.
#      A sustained window begins once 0.1 % of the level is left of the slowest relaxation, and lasts a period
#      and three seconds at least.
#      A figure is the mean over its processes, each with the same weight; its interval is run-to-run.
#      On a GPU the beginning of a case's turn isn't counted: the power limit still remembers the case before.
#   6  2026-11: without earlier runs, what runs of such machines usually differ by is in the interval;
#      `unstable` is judged without it. A CPU's normalized efficiency is that of a typical round (the middle
#      half of the rounds, each a ratio of neighbours in time), calibrated in up to five processes. A batch
#      has four launches for the untimed one before it. Smoke and quick have fewer cases on a CPU.
#   7  2026-11: a sustained interval of one process reaches over half of its window's drift, and 0.05 % for
#      the pauses between batches. A CPU that one group found settled counts as settled in the next, whose few
#      batches can't tell. A Mixtral layer's gradients are added in the order of their weights, in half the
#      time. `quick` gives most of its minute to the layer; `attention` on a CPU has a square product.
#   8  2026-11: a CPU's probe is the fastest of a few large products itself, drawn beside the cases of its
#      dtype in rounds as short as their launches allow; until then it was a small one, and a ratio calibrated
#      in separate rounds led from it to the largest: that ratio added its own error, and rounds of other
#      lengths a bias of some percent. A slow case draws in every second or fourth round instead of making all
#      rounds long. A sustained interval reaches over what a relaxation has still before it and over the run's
#      own pauses, each on its own side; a soak's merged batches leave none out. Of a GPU's cases in turns all
#      processes together tell whether they have settled.
METHOD = 8
# The same in a line each, for people: docs/method.md has them, and a comparison across methods quotes them.
METHOD_CHANGES: Mapping[int, str] = {
    1: "batches of back-to-back launches after a fixed warm-up; one phase",
    2: "cases take turns; burst and sustained are measured apart; drift doesn't widen an interval",
    3: "caches are warm whatever ran before; memory is measured on buffers larger than the last-level cache",
    4: "a CPU's arithmetic peak is measured, and is its nominal where no table has one; a GPU's burst begins "
    "when its clock is up; its fp16 and bf16 products add split sums as torch's default does",
    5: "each case is measured in several processes, and intervals are run-to-run; a sustained figure begins "
    "when 0.1 % of its level is left to settle",
    6: "a first run allows for what runs of such machines differ by; a CPU's normalized efficiency is that "
    "of a typical round, calibrated in several processes",
    7: "a sustained interval reaches over half of what its window drifted by; a CPU that has settled stays "
    "so for the next cases; experts' gradients are added in the order of their weights, without a copy",
    8: "a CPU's ceiling is a large product beside the cases, in short rounds, without a calibration; "
    "sustained intervals reach over what is still to settle and over the run's own pauses; a GPU's processes "
    "tell together whether they have settled",
}
