"""The English template of each message's code, by the module that makes it.

A placeholder has a rule of `formatting` (`{left_s:duration}`), a format specification of Python
(`{share:.0%}`), or, where it takes several values, the separator to put between them (`{figures: and }`).
"""

from __future__ import annotations

from collections.abc import Mapping

from nameplate.base.language import N_

TEXT, OURS = "text", "ours"
TEMPLATES: Mapping[str, str] = {
    # Any text: from elsewhere, never translated; our own, which a catalogue translates as a whole.
    TEXT: "{text}",
    OURS: "{text}",
    "clauses": N_("{each:; }"),
    # engine/case_run.py, engine/record_of.py, run/: why a case has no figure
    "no_cache_size": N_("cache={cache} needs the size of the last-level cache, which isn't known here"),
    "needs_memory": N_("needs about {needed_gb:figure} GB; this device has {held_gb:figure} GB"),
    "needs_compiling": N_(
        "compiling takes about {compile_s:duration} a shape; its search has {budget_s:duration}: give a "
        "larger --budget"
    ),
    "compiling_takes_long": N_(
        "compiling takes about {compile_s:duration}, more than {share:.0%} of the {group_s:duration} that "
        "its dtype has: give a larger --budget"
    ),
    "slower_backend": N_(
        "its search reached {tflops:figure} TFLOPS where another backend's reached {best:figure}: no figure "
        "was taken"
    ),
    "library_refused": N_("the library refuses every shape of the grid: {error}"),
    "nothing_found": N_("no shape of the grid could be timed in {budget_s:.3g} s"),
    "out_of_memory": N_("the device ran out of memory, and nothing smaller of its kind is known"),
    "out_of_memory_but_smaller": N_("the device ran out of memory; the next smaller that fits is {shape}"),
    "needs_time": N_(
        "needs about {needed_s:duration} ({launch_s:duration} a launch); {left_s:duration} of the "
        "budget are left; "
        "try a larger --budget"
    ),
    "budget_spent": N_("the budget of {budget_s:duration} was spent before this case's turn"),
    "process_died": N_("its process ended while it was measured: {how}"),
    "signal": N_("signal {signal}"),
    "exit_status": N_("exit status {status}"),
    "context_lost": N_(
        "{error}; after it the GPU gave no right result in this process any more, so another one went on"
    ),
    "context_lost_with_xid": N_(
        "{error}; the driver has reported Xid {xids} since the GPU was opened (see NVIDIA's Xid catalogue), "
        "and it gave no right result in this process any more, so another one went on"
    ),
    "worker_hung": N_(
        "no sign of life for {allowed_s:duration}: its driver, a kernel or a library hangs ({variable} "
        "allows a slow step more)"
    ),
    "worker_never_ready": N_(
        "not ready within {allowed_s:duration}: loading torch or opening the device hangs ({variable} allows "
        "more)"
    ),
    "worker_stuck": N_(
        "no sign of life for {allowed_s:duration}, and it can't be ended: it is in a call that its driver "
        "doesn't return from; see dmesg, and drain this machine"
    ),
    "measured_alone": N_(
        "measured by itself, not in turn with its group, since a process that measured the group ended early"
    ),
    "telemetry_lost": N_(
        "telemetry ended while the device was measured ({why}): what went on during this case is known less "
        "well"
    ),
    "undeclarable": N_("its declared work can't be recorded: {why}"),
    # run/collectives.py: collectives between the processes of a job
    "ranks_share": N_(
        "ranks {one} and {other} share {what}, and slow one another down: that is no scaling to many devices"
    ),
    "link_not_rated": N_("the links between these processes have no known rating"),
    "collective_rank": N_("rank {rank} on {host}: {verdicts}"),
    "culprit_silent": N_("no answer from {who}: dead, stopped or cut off"),
    "culprit_member_fails": N_("{who}: every group with it failed; the others work without it"),
    "culprit_member_slow": N_("{who}: a pair with it ran at {share:percent} of the usual pair's speed"),
    "culprit_link_fails": N_("between {one} and {other} nothing works; each works with others"),
    "culprit_link_slow": N_("between {one} and {other}: {share:percent} of the usual pair's speed"),
    "culprit_together_fails": N_("all {count} together fail, while no pair of them does"),
    "culprit_together_slow": N_(
        "all {count} together run at {share:percent} of a pair's bus bandwidth, while no pair of them is slow"
    ),
    # engine/host_share.py: warnings
    "graph_too_long": N_(
        "the host took long to launch, and a CUDA graph to compare with would take "
        "{needed_s:duration}, more than the {allowed_s:duration} allowed for it; try a larger --budget"
    ),
    "graph_refused": N_(
        "the host took long to launch, and the launches can't be captured as a CUDA graph to compare with"
    ),
    # engine/record_of.py: warnings
    "bits_changed": N_(
        "the bits of the result changed in batch {batch} of {count} although the inputs did not: silent "
        "data corruption; take this device out of use and run the vendor's diagnostics"
    ),
    "sampling": N_("{found:; }; try a larger --budget"),
    "few_batches": N_("{count} batches, fewer than {least}: the interval uses Student's t distribution"),
    "wide_interval": N_("the interval is ±{half_width:percent} of the figure"),
    "wide_by_processes": N_("{count} processes alone leave ±{half_width:percent} of the figure"),
    "not_settled": N_("throughput had not settled when the time was up"),
    "still_settling": N_(
        "throughput had not settled when the time was up ({lacking_s:duration} more would do)"
    ),
    "burst_not_told": N_(
        "the burst can't be measured: a limit took effect before {count} batches had been drawn at full "
        "speed; try a smaller shape"
    ),
    "settling_unknown": N_("the run was too short or too noisy to tell whether throughput had settled"),
    "energy_disagrees": N_(
        "energy by the driver's counter ({counted_j:figure} J) and by its power readings "
        "({integrated_j:figure} J) "
        "differ by {apart:percent}: don't rely on power until they agree"
    ),
    "cores_slowed": N_(
        "with all cores busy, each ran at {speed:.2f} of its usual speed: run again when the machine is "
        "less busy"
    ),
    "above_silicon": N_(
        "{share:percent} above the arithmetic peak that was measured when the run began ({tflops:figure} "
        "TFLOPS), which nothing can exceed: other work disturbed that measurement; run again when the "
        "machine is less busy"
    ),
    "window_too_short": N_(
        "a window of {elapsed_s:duration} is too short to judge contention by ({enough_s:duration} "
        "would do); try a "
        "larger --budget"
    ),
    "fits_cache": N_(
        "its {size_mib} MiB may stay in the last-level cache of {cache_mib} MiB, so this may not be the "
        "memory's bandwidth; measure it with cache=rotating"
    ),
    # engine/warnings.py
    "memory_errors": N_(
        "{count} uncorrectable memory errors during the window: the result can't be trusted; see nvidia-smi "
        "-q -d ECC, and reset the GPU"
    ),
    "xid_errors": N_(
        "the driver reported Xid {xids} of this GPU during the window: the result can't be trusted; look it "
        "up in NVIDIA's Xid catalogue, and see dmesg"
    ),
    "program_xid_errors": N_(
        "the driver reported Xid {xids} of this GPU during the window, an error of a program on it: see "
        "dmesg for which"
    ),
    "rows_remapped": N_(
        "rows of the GPU's memory were remapped during the window ({count}): see nvidia-smi -q -d "
        "ROW_REMAPPER"
    ),
    "nvlink_errors": N_(
        "NVLink had {recoveries} recoveries, {replays} replays and {crc} CRC errors during the window: see "
        "nvidia-smi nvlink -e"
    ),
    "slice_counters_shared": N_(
        "a MIG slice shares its card's clock and throttle counters: the work of another slice may have held "
        "the clock down"
    ),
    "other_process": N_("{count} other process used the GPU during the window: end it, or wait"),
    "other_processes": N_("{count} other processes used the GPU during the window: end them, or wait"),
    "clock_held_by_power": N_(
        "held at its power limit for {share:percent} of the window, which is normal for sustained work"
    ),
    "burst_held_by_power": N_(
        "held at its power limit for {share:percent} of the window, so this figure is no burst: let the "
        "device cool, and run again"
    ),
    "clock_held_by_thermal": N_(
        "the clock was held down for {share:percent} of the window (thermal): check its airflow and its "
        "neighbours' heat"
    ),
    "clock_held_by_software_thermal": N_(
        "the clock was held down for {share:percent} of the window (software thermal): check its "
        "airflow and its "
        "neighbours' heat"
    ),
    "clock_held_by_hardware_thermal": N_(
        "the clock was held down for {share:percent} of the window (hardware thermal): check its "
        "cooler: this is "
        "the last protection before it shuts down"
    ),
    "clock_held_by_power_brake": N_(
        "the clock was held down for {share:percent} of the window (power brake): check the server's power "
        "supplies and its power cap"
    ),
    "gpu_not_judged": N_("throttling and other processes can't be judged: {why}"),
    "memory_of_others": N_(
        "{gib:.1f} GiB of the GPU's memory are in use beyond this run's own: end what holds them, or wait"
    ),
    "busy_while_idle": N_(
        "the GPU was {share:percent} busy while this run left it idle: end what uses it, or wait"
    ),
    "company_judged": N_(
        "process ids here aren't those the driver reports, so other processes were looked for by {by:, }; a "
        "small idle one isn't seen so (--pid=host shows it)"
    ),
    "by_memory": N_("memory in use beyond this run's own ({gib:.1f} GiB)"),
    "by_utilization": N_("utilization while this run was idle ({share:percent})"),
    "by_count": N_("the number of processes"),
    "processes_unknown": N_("other processes on the GPU can't be detected: {why}"),
    "pids_differ": N_(
        "process ids here aren't those the driver reports; in a container, share the host's (--pid=host)"
    ),
    "power_throttling_uncounted": N_("throttling (power) wasn't counted: {why}"),
    "thermal_throttling_uncounted": N_("throttling (thermal) wasn't counted: {why}"),
    "too_few_readings": N_(
        "only {count} readings were taken while it ran alone, and stand for {covered:percent} of that time"
    ),
    "not_credited": N_("not known for this case: {figures} ({why})"),
    "empty_window": N_("the window has no length"),
    # engine/ceiling.py: what held the ceiling below nominal
    "losses": N_("{each:, }"),
    "lost_to_shared_cores": N_("shared cores {share:.0%}"),
    "lost_to_library": N_("library {share:.0%}"),
    "lost_to_contention": N_("contention {share:.0%}"),
    "lost_to_library_or_contention": N_("library or contention {share:.0%}"),
    "lost_to_power_limit": N_("power limit {share:.0%}"),
    "lost_to_heat": N_("heat {share:.0%}"),
    "lost_to_clock": N_("clock {share:.0%}"),
    # telemetry/, device/cuda.py: why a figure of a GPU is absent
    "counted_since_driver_575": N_("counted since driver 575: this is {driver}"),
    "driver_version_unreadable": N_("driver version {driver!r} doesn't tell how this field is numbered"),
    "slice_has_no_power": N_("a MIG slice has no power of its own: read its card, parent_uuid"),
    "memory_is_numa_node": N_(
        "the operating system manages this GPU's memory, so memory in use can't be attributed to a process"
    ),
    "energy_is_the_modules": N_("the energy counter of a superchip is the whole module's, its CPU included"),
    "no_nvlink_up": N_("no NVLink of this GPU is up"),
    "no_uuid": N_("this torch reports no UUID, and without it NVML may mean another GPU"),
    "no_driver": N_("no NVIDIA driver here ({why}), so the CPU was measured"),
    "no_gpu_by_nvml": N_("NVML sees no GPU, so the CPU was measured"),
    "gpu_without_nvml": N_("{device}: NVML has no data on it: {why}"),
    "gpu_nonsense": N_("{device}: NVML reports what can't be true: {reasons:; }"),
    "nvml_not_installed": N_("nvidia-ml-py can't be imported: {why}"),
    "nvml_function_missing": N_("function not found in this nvidia-ml-py: {function}"),
    "driver_function_missing": N_("function not found in this driver: {function}"),
    "field_not_answered": N_("not answered: field {field}"),
    "field_type_unknown": N_("field {field} has unknown type {type}"),
    "no_such_gpu": N_("NVML has no GPU {uuid} among the {count} it counts"),
    "gpu_not_watched": N_("GPU {uuid} isn't being watched"),
    "nvml_closed": N_("the NVML client is closed"),
    "no_answer": N_("{name} gave no answer within {deadline_s:duration} and was given up{hangs}"),
    "stuck": N_("{name} was stuck for {limit_s:duration} and ended{hangs}"),
    "driver_hangs": N_(": its driver hangs (dmesg may hold an Xid)"),
    "watcher_ended": N_("{name}'s process ended (exit status {status})"),
    "not_an_answer": N_("{name}'s process said {said}, which is no answer"),
    "implausible": N_(
        "the driver reported {found:g} for {figure}, which can only be {least:g} to {most:g}: not used"
    ),
    "counter_still": N_("the counter stood still for {elapsed_s:duration}"),
    "not_read": N_("not read"),
    "not_read_while_watching": N_("not asked while watching"),
    "counter_fell": N_("the counter fell from {first:g} to {second:g}: the driver was reloaded"),
    "counter_outran": N_("the driver counted {counted_s:duration} in {elapsed_s:duration}"),
    # specs/, device/cpu.py: why a device or a dtype has no rating
    "mixed_rating": N_("FLOPs by dtype ({shares}) ÷ the time of each at its own rating"),
    "no_rating": N_("no rated figure is known for this dtype"),
    "no_part": N_("no part is recognised by {evidence}"),
    "cpu_unmeasured": N_("{why}, and no loop measured this CPU's peak in this dtype"),
    "cpu_unmeasurable": N_("{why}, and this CPU's peak can't be measured: {absent}"),
    "cpu_contradicted": N_("{evidence} is contradicted: {problems:; }"),
    "cpu_one_left": N_("{evidence}; {claim}"),
    "cpu_name_refused": N_("the model name {name!r} is that of {part}, which is refused: {problem}"),
    "cpu_numbers_refused": N_("these numbers are those of {part}, which is refused: {problem}"),
    "cpu_disagrees": N_("{evidence} and the name {name!r} are of two parts ({parts:, })"),
    "cpu_foreign_vendor": N_("a processor of {vendor} has no {flags:, }"),
    "cpu_foreign_flags": N_("{part} has no {flags:, }"),
    "cpu_other_architecture": N_(
        "{part} is a processor of the {family} family, and Python runs on {architecture} here: what the "
        "system says is of another machine, or Python runs in an emulator"
    ),
    "cpu_other_numbers": N_("these aren't the numbers of {part}"),
    "cpu_too_fast": N_(
        "{measured:.1f} FLOP per cycle were measured in {dtype}, and {part} does {rated:g} at most "
        "({instruction})"
    ),
    "cpu_confirmed": N_("{evidence}; confirmed by measurement ({figures:, })"),
    "cpu_named_by_instructions": N_("named by its instructions, {name}: {why}"),
    "cpu_kind_unknown": N_("{part} has several kinds of cores, and which ones these are isn't known here"),
    "nominal_exceeded": N_(
        "in {dtype} {measured:figure} TFLOPS were measured, above the {rated:figure} of the table: the "
        "measurement is the nominal"
    ),
    "core_below_table": N_(
        "one core alone does fewer FLOP per cycle than {part} ({figures:, }): it has fewer vector units than "
        "that part, or shares them; nominal is still the part's"
    ),
    "silicon_below_nominal": N_(
        "all cores at once do less than nominal, by measured loops ({shares:, } of it): they hold lower "
        "clocks together, or share cores with others"
    ),
    "cpu_not_recognised": N_("the CPU's microarchitecture was not recognised, or is not in the table"),
    "no_clock": N_("no clock to rate {part} by: {why}"),
    "model_unknown": N_("its model name isn't in the registry and the clock can't be measured here"),
    "silicon_source": N_("{instruction} on {cores:g} cores at {clock_mhz:,.0f} MHz, measured"),
    "silicon_path_failed": N_("the arithmetic peak of {loop} isn't measured: {why}"),
    "silicon_no_path": N_("the CPU's flags show no {dtype} instructions that have a loop"),
    "silicon_system": N_(
        "the arithmetic peak isn't measured on {system}: its loops are machine code that Linux alone can map"
    ),
    "silicon_no_flags": N_("the CPU's flags show no instruction path that has a loop to measure its peak"),
    "silicon_refused": N_(
        "this host refuses to run machine code from memory ({call}: {why}), so the arithmetic peak can't be "
        "measured: allow executable memory files for this user, or run outside the sandbox"
    ),
    "silicon_tiles": N_("the kernel refuses AMX's tile registers ({why})"),
    "silicon_illegal": N_("illegal instruction, although the CPU's flags show it"),
    "silicon_signal": N_("its process was ended by {signal}"),
    "silicon_broke": N_("its process ended with exit status {status}"),
    "silicon_garbled": N_("its process gave no usable answer"),
    "silicon_silent": N_("no answer within {seconds:.0f} s"),
    "silicon_process": N_("its process can't be started ({why})"),
    "dtype_needs": N_("{dtype} on {part} needs {needed: or }, which this machine doesn't expose"),
    "second_fma_unit": N_("a second 512-bit FMA unit"),
    "no_fp16": N_("no FP16 arithmetic on this CPU (needs AVX512-FP16, AMX-FP16 or Arm FP16)"),
    "cpu_dtype_unsourced": N_("no sourced figure for {dtype} on {part}"),
    "dtype_unsourced": N_("no dense figure with a source for this dtype on {part}"),
    "name_not_recognised": N_("driver name {name!r}: {why}"),
    "give_nominal": N_("{why}; give the rating with --nominal DTYPE=TFLOPS"),
    "no_name": N_("the device has no name"),
    "name_unknown": N_("{name!r} isn't the name of a part in the registry"),
    "mig_slice": N_("{name!r} is a MIG slice: a slice has no rated figure of its own"),
    "virtual_gpu": N_("{name!r} is a virtual GPU's profile: a share of a GPU has no rated figure of its own"),
    "name_contradicted": N_("the name is that of {part}, but {problem}"),
    "none_of_that_name": N_("{name!r} is none of the parts of that name ({problems:; })"),
    "part_contradicted": N_("{part}: {problem}"),
    "name_ambiguous": N_(
        "{name!r} alone doesn't say which part it is: {parts: or }, or one that isn't in the registry"
    ),
    "other_vendor": N_("the vendor is {found} and that part's is {rated}"),
    "other_memory": N_("it has {found_gib:figure} GiB of memory where that part has {rated_gb: or } GB"),
    "other_multiprocessors": N_("it has {found} {unit}s where that part has {rated:g}"),
    "other_power_limit": N_("its power limit is {found_w:g} W where that part has {rated_w:g} W"),
    "other_pci_id": N_("its PCI id is that of {part}"),
    # specs/, device/cpu.py: what to know of a rating
    "part_is_several_devices": N_("{part} is {count} devices to a framework: figures are one device's"),
    "sources_disagree": N_("sources disagree on {conflict}"),
    "confidence": N_("confidence in these figures is {confidence}"),
    "peak_at_highest_clock": N_(
        "datasheet {datasheet:g} × the card's highest clock, {highest_mhz:g} MHz, ÷ its rated clock, "
        "{rated_mhz:g} MHz"
    ),
    "peak_clock_is_rated": N_(
        "the datasheet's figure: the card's highest clock, {highest_mhz:g} MHz, isn't above the rated one, "
        "{rated_mhz:g} MHz"
    ),
    "peak_is_datasheet": N_("the datasheet's figure: the card's highest clock or the rated one isn't known"),
    "peak_is_given": N_("given by --nominal"),
    "peak_is_measured": N_("the peak that loops measured on this CPU"),
    "peak_is_table": N_("nominal: the table's FLOP per cycle on these cores at their clock"),
    "peak_is_nominal": N_("nominal: there is no datasheet figure"),
    "flagged": N_("{figures: and } {problem}: {why}"),
    "above_clock": N_(
        "= {value:g} would need {needed_mhz:.0f} MHz, but the part reaches {maximum_mhz:g} MHz at most "
        "(which gives {most:.4g})"
    ),
    "off_rated_clock": N_(
        "= {value:g} isn't what the rated clock of {rated_mhz:g} MHz gives, which is {expected:.4g}"
    ),
    "above_maximum_clock": N_("= {value:g} is above the highest clock, {maximum_mhz:g} MHz"),
    "not_rounded_from": N_("= {value:g} can't be {unrounded:g} rounded"),
    "far_below_clock": N_("= {value:g} is far below {most:.4g}"),
    "ratio_off": N_("= {value:g} is {times:.3g} times {base}"),
    "not_the_datasheets": N_("= {value:g} differs from the datasheet's {datasheet:g}"),
    "cores_shared": N_(
        "{cores:g} cores working at once run at {speed:.2f} of their speed alone: they share physical "
        "cores with each other or with another machine; nominal counts each as a core"
    ),
    "cores_may_be_shared": N_(
        "this is a virtual machine: two of its cores may share one physical core; nominal counts each as a "
        "core"
    ),
    "threads_differ": N_("torch runs {threads} threads on {cores:g} cores; nominal counts the cores"),
    "quota": N_("a control group limits this process to {cpus:g} CPUs"),
    # store/folder.py, run.py: what could not be read or measured of a run
    "foreign_record": N_("{file}: skipped a record of {case!r}, which the manifest doesn't list"),
    "second_record": N_("{file}: skipped a second record of {case!r}"),
    "file_unreadable": N_("{file}: skipped, can't be read: {why}"),
    "line_unreadable": N_("{file} line {line}: skipped, {why}"),
    "more_lines_unreadable": N_("{file}: skipped {count} more lines that can't be read"),
    "contradictory_record": N_("{file}: the record of {case} contradicts itself: {found:; }"),
    "torn_line": N_("{file}: skipped a torn last line of {count} bytes"),
    "device_refused": N_("{device}: {why}"),
    "device_died": N_("{device}: its process ended early: {how}"),
    "device_hung": N_("{device}: its process hung: {how}"),
    "process_replaced": N_("{device}: its process ended early: {how}; another one measured the rest"),
    "group_broken_up": N_(
        "{device}: its process ended early: {how}; another one measured {count} cases of its group one by "
        "one, so a ratio of two of them isn't taken in turn"
    ),
    "process_paused": N_(
        "{device}: measuring was stopped (Ctrl-Z) and went on later; another process began the cases in hand "
        "anew"
    ),
    "device_given_up": N_("{device}: its process ended early {count} times, the last one: {how}"),
    # store/contradictions.py
    "contradicts_itself": N_("the record contradicts itself: {found:; }"),
    "contradicts": N_("{what} is {found}, but {by} gives {expected}"),
    "contradicts_text": N_("{what} is {found!r}, but {by} says {expected!r}"),
    "verdict_lacks": N_("the verdict {verdict} is missing, though {why} requires it"),
    "evidence_lacks": N_("{what} is missing, from which the run-to-run interval is computed"),
    "two_records": N_("there are two records of this case that differ"),
    # store/publish.py: why a run isn't published unasked
    "only_a_trial": N_("a run of {suite} only shows that everything works: its cases have too little time"),
    "figures_above_peak": N_(
        "{count} records are above what the device can do, the first of them {case}: a peak or a time is "
        "wrong"
    ),
    "published_by_force": N_("published by --force: {why}"),
    # store/folder.py, compare/: why a case has no record, and why it is what it is said to be
    "run_problem": N_("{run}: {problem}"),
    "run_ended": N_("the run ended before it"),
    "run_ended_or_unreadable": N_("the run ended before it, or its record can't be read"),
    "record_unreadable": N_("its record can't be read"),
    "record_gone": N_("its record was there when the run ended, and is gone"),
    "wrong_result": N_("the result is wrong or wasn't checked, so there is no throughput to compare"),
    "two_parts": N_("measured on two different parts"),
    "two_works": N_("the work differs: base {base: or }; new {new: or }"),
    "other_kernel": N_("another kernel ran: base {base: or }; new {new: or }"),
    "base_lacks": N_("only new has this case"),
    "new_lacks": N_("only base has this case"),
    "of_base": N_("base: {why}"),
    "of_new": N_("new: {why}"),
    "is_missing": N_("missing: {why}"),
    "is_failed": N_("failed: {why}"),
    "is_skipped": N_("skipped: {why}"),
    "is_wrong": N_("wrong: {why}"),
    "is_unreadable": N_("can't be used: {why}"),
    "base_unreadable_in": N_("base: can't be used in {count} of {all} runs: {why}"),
    "entry_without_name": N_("entry {number} has no fullname"),
    "entry_unusable": N_("its entry: {why}"),
    "entry_repeated": N_("{name} is there {count} times, and it isn't known which one counts"),
    "side_unreadable": N_("left out: {why}"),
    "side_files_left_out": N_("left out: JSON files that lie beside its runs ({count}), such as {path}"),
    "side_repeated": N_("left out: {path} is a copy of {run}"),
    "side_shared": N_(
        "runs that are in base and in new, and so say nothing of a change: {count}, the first is {run}"
    ),
    "nothing_achieved": N_("no {basis} figure on both sides"),
    "nothing_by_basis": N_("no {basis} figure on both sides; --by achieved compares throughput"),
    "new_failed_in": N_("new: failed in {count} of {all} runs: {why}"),
    "base_wrong_in": N_("base: wrong in {count} of {all} runs: {why}"),
    "base_doubted": N_("base is {verdicts:, }: fewer than {least} runs can't decide"),
    "new_doubted": N_("new is {verdicts:, }: fewer than {least} runs can't decide"),
    "no_pair": N_("no pair has a figure of both"),
    "few_pairs": N_("too few pairs for an interval"),
    "few_runs": N_("too few runs a side for an interval"),
    "at_threshold": N_("the ratio is at the threshold"),
    "wider_than_threshold": N_("±{half_width:percent} is wider than the threshold; {would}"),
    "pairs_would_tell": N_("about {count} pairs would decide"),
    "runs_would_tell": N_("about {count} runs on each side would decide"),
    "no_pairs_would_tell": N_("no reasonable number of pairs would decide"),
    "no_runs_would_tell": N_("no reasonable number of runs on each side would decide"),
    "probe_differs": N_("the probe depends on a setting that differs, so throughput itself is compared"),
    "clocks_differ": N_("the clocks differ: {base_mhz:,.0f} and {new_mhz:,.0f} MHz"),
    # health/: why a device is fit, degraded, unfit, or unknown
    "health_no_faults": N_("no fault was seen, and {checked} results were right"),
    "health_wrong_result": N_("a wrong result beyond rounding error: {case} ({count} in all)"),
    "health_throttled": N_("heat or a power brake held the clock down: {case} ({count} in all)"),
    "health_case_failed": N_("{case} failed: {why}"),
    "health_narrow_link": N_("its PCIe link has {lanes} lanes of {most}"),
    "health_nothing_measured": N_("nothing was measured on it"),
    "health_errors_unread": N_("no counter of errors can be read ({what:, })"),
    "health_no_case": N_("no figure says how fast it is: no case that shows its speed was finished"),
    "health_no_figure": N_(
        "no figure says how fast it is: {excluded} disturbed by other work or by the host, or wrong"
    ),
    "health_imprecise": N_("{case}: its interval of ±{half_width:percent} is too wide to judge by"),
    "health_no_published": N_("no published figure of {part} to compare with"),
    "health_no_large_product": N_(
        "no product with edges of {edge} and more was measured, as published ones are"
    ),
    "health_near_published": N_(
        "{case}: {share:percent} of the datasheet, {of_best:percent} of what is expected "
        "({published:percent}, by {source})"
    ),
    "health_below_published": N_(
        "{case}: {share:percent} of the datasheet, only {of_best:percent} of what is expected "
        "({published:percent}, by {source})"
    ),
    "health_below_any": N_(
        "{case}: {share:percent} of the datasheet, less than a product of any part should reach; nothing was "
        "published of {part}"
    ),
    "health_memory_near_rated": N_("{case}: {share:percent} of the rated {rated_gb_s:figure} GB/s"),
    "health_memory_below_rated": N_("{case}: only {share:percent} of the rated {rated_gb_s:figure} GB/s"),
    "health_no_siblings": N_(
        "{others} other devices of its kind were measured with it; {least} are needed to compare"
    ),
    "health_below_siblings": N_(
        "{case}: {drop:percent} slower than the {count} others of its kind, whose spread explains at "
        "most {limit:percent}"
    ),
    "health_with_siblings": N_(
        "{case}: as fast as the others of its kind; a drop of {limit:percent} would have been noticed"
    ),
    "health_siblings_scatter": N_(
        "{case}: devices of its kind differ so much here that only a drop of {limit:percent} would be noticed"
    ),
    "health_no_past": N_("{runs} earlier runs like this one are known of it; {least} are needed to compare"),
    "health_below_past": N_(
        "{case}: {drop:percent} slower than in its {count} earlier runs, whose scatter explains at most "
        "{limit:percent}"
    ),
    "health_with_past": N_(
        "{case}: as fast as in its earlier runs; a drop of {limit:percent} would have been noticed"
    ),
    "health_past_scatter": N_(
        "{case}: its earlier runs differ so much that only a drop of {limit:percent} would be noticed"
    ),
    "health_gpus_missing": N_("{found} GPUs were found, {expected} expected"),
    "ledger_never_seen": N_("nothing was heard of it: it never began, or couldn't write into this folder"),
    "ledger_ranks_lack": N_("nothing was heard of {count} of the {expected} processes of its job"),
    "ledger_hosts_lack": N_("nothing was heard of {count} of the {expected} nodes that are expected"),
    "ledger_unfinished": N_("began {began} and didn't finish: {records} of {cases} cases have a record"),
    # fleet/: why a run prices no fleet
    "no_product_admitted": N_("no record of this run is trusted enough to price a fleet"),
    "no_product_recorded": N_("no record of a matrix product"),
    "other_datasheet": N_("measured against another {dtype} datasheet figure than the registry's"),
    "run_of_other_part": N_("a run of a part that none of these fleets has"),
    "no_known_part": N_("no known part: {evidence}"),
}
