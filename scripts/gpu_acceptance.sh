#!/usr/bin/env bash
# Everything worth doing with a new GPU, in one go: what matters most first, each step with a limit and a log.
#
#     scripts/gpu_acceptance.sh SECONDS [--device cuda|cuda:N|cpu|twin:NAME] [--out FOLDER] [--pack FILE]
#                                       [--wheels FOLDER] [--steps NAME,…]
#
# SECONDS is all the time that there is; ten minutes (600) give the self-test, the card's twin file, the quick suite
# twice and a run from idle. A step that doesn't fit what is left is skipped, and one that hangs is ended and left
# behind. After every step all of it is packed anew into FILE (--out's FOLDER/gpu-acceptance.tgz; FOLDER:
# ./gpu-acceptance), so whatever ends this script leaves what was done, and what can take but a few files away can take
# that one. It changes no setting of the card and needs no network. Where the time comes in pieces, the second call
# has the steps that are left: --steps gpu-tests,again,sensitivity,bare,standard.
#
# `bench` is $BENCH, or the one on PATH, or .venv's, or else this checkout under $PYTHON (python3) as it is: that
# needs torch and pyproject.toml's other dependencies; those that the machine lacks can lie as wheels in --wheels
# (`python3 -m pip download --only-binary :all: --python-version 3.12 -d FOLDER pydantic` where there is a network;
# the version is that of the machine's Python, and pip takes the pydantic_core that belongs to the pydantic).
#
# Exit status: 0 where every step ended well; 1 where a check failed; 2 for bad input or no GPU; 3 where a step broke,
# hung or was skipped. To try the script itself, GPU_ACCEPTANCE_LIMITS=1 makes every limit a hundredth (1 %) of it.
set -u

usage() {
  echo "gpu_acceptance.sh: $1; expected SECONDS [--device cuda|cuda:N|cpu|twin:NAME] [--out FOLDER] [--pack FILE]" \
    "[--wheels FOLDER] [--steps NAME,…]" >&2
  exit 2
}

ALL=selftest,quick,soak,smoke,eight-bit,attention,gpu-tests,again,sensitivity,bare,standard
DEVICE=cuda OUT=gpu-acceptance PACK="" WHEELS="" TOTAL="" STEPS=$ALL
while [ $# -gt 0 ]; do
  case "$1" in
    --device | --out | --pack | --wheels | --steps)
      [ $# -ge 2 ] || usage "$1 without a value"
      case "$1" in
        --device) DEVICE=$2 ;; --out) OUT=$2 ;; --pack) PACK=$2 ;; --wheels) WHEELS=$2 ;; --steps) STEPS=$2 ;;
      esac
      shift 2 ;;
    -*) usage "unknown option $1" ;;
    *) [ -z "$TOTAL" ] || usage "one number too many: $1"; TOTAL=$1; shift ;;
  esac
done
[[ "$TOTAL" =~ ^[1-9][0-9]{0,5}$ ]] || usage "no number of seconds: '${TOTAL}'"
[[ "$DEVICE" =~ ^(cpu|cuda(:[0-9]+)?|twin:.+)$ ]] || usage "no such device: '$DEVICE'"
for name in ${STEPS//,/ }; do
  case ",$ALL," in *",$name,"*) ;; *) usage "no such step: '$name' (of $ALL)" ;; esac
done
if [ -n "$WHEELS" ] && [ ! -d "$WHEELS" ]; then usage "no such folder: '$WHEELS'"; fi
if [ -n "$PACK" ] && ! { : >"$PACK.new"; } 2>/dev/null; then usage "the file can't be written: '$PACK'"; fi

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON="${PYTHON:-python3}"
mkdir -p "$OUT" 2>/dev/null || usage "the folder can't be made: '$OUT'"
OUT="$(cd "$OUT" && pwd)"
WORK="$OUT/work" RUNS="$OUT/work/runs" PACK="${PACK:-$OUT/gpu-acceptance.tgz}" SUMMARY="$OUT/work/summary.txt"
mkdir -p "$RUNS" && : >"$SUMMARY" || usage "the folder can't be written: '$OUT'"
# The checkout may be read-only, and without compiled modules each of many processes compiles them anew.
export PYTHONUNBUFFERED=1 PYTHONPYCACHEPREFIX="$OUT/pycache" TERM=dumb COLUMNS=140
LIMITS="${GPU_ACCEPTANCE_LIMITS:-100}"
WORST=0    # the exit status so far
RUNNING="" # the step's process, which leads a session of its own

left() { echo $((TOTAL - SECONDS)); }
note() { echo "$*" | tee -a "$SUMMARY"; }
pack() { tar -czf "$PACK.new" -C "$OUT" work 2>/dev/null; [ -s "$PACK.new" ] && mv -f "$PACK.new" "$PACK"; }
worse() { [ "$1" -eq 1 ] || [ "$WORST" -eq 0 ] && WORST=$1; return 0; }   # a failed check tells most
trap pack EXIT
end_running() { [ -n "$RUNNING" ] && kill "-$1" -- "-$RUNNING" 2>/dev/null; }
trap 'end_running KILL; note "ended by a signal after $SECONDS s"; exit 3' INT TERM HUP

# Wait for the step, $1 seconds at most; then end its whole session. One that can't be ended (in a call of the driver) is
# left behind: a wait without a limit would last as long as it does.
wait_limited() {
  local end=$((SECONDS + $1))
  while kill -0 "$RUNNING" 2>/dev/null; do
    if [ "$SECONDS" -ge "$end" ]; then
      end_running TERM
      for _ in 1 2 3 4 5 6 7 8 9 10; do
        kill -0 "$RUNNING" 2>/dev/null || break
        sleep 0.3
      done
      end_running KILL
      return 124
    fi
    sleep 0.1
  done
  wait "$RUNNING"
}

# Whether a step is one of those that were asked for; the first ones, which say what is here, always are.
is_wanted() { case ",machine,devices,fields,$STEPS," in *",$1,"*) ;; *) return 1 ;; esac; }

# step NAME MOST LEAST COMMAND…: run it for MOST seconds at most, if at least LEAST are left. Its output is in NAME.out,
# its errors are in NAME.log; the last TAIL lines are shown.
step() {
  local name=$1 most=$2 least=$3 have begin=$SECONDS status
  shift 3
  is_wanted "$name" || return 0
  most=$(((most * LIMITS + 99) / 100)) least=$((least * LIMITS / 100))
  have=$(($(left) - 5))
  if [ "$have" -lt "$least" ]; then
    note "[$name] skipped: $have s are left, $least are needed"
    worse 3
    return 0
  fi
  [ "$most" -gt "$have" ] && most=$have
  setsid "$@" >"$WORK/$name.out" 2>"$WORK/$name.log" </dev/null &
  RUNNING=$!
  wait_limited "$most"
  status=$?
  RUNNING=""
  case $status in
    0) note "[$name] done in $((SECONDS - begin)) s" ;;
    124) note "[$name] ended after its limit of $most s"; worse 3 ;;
    1) note "[$name] exit status 1 in $((SECONDS - begin)) s: a check failed"; worse 1 ;;
    *) note "[$name] exit status $status in $((SECONDS - begin)) s"; worse 3 ;;
  esac
  { tail -n "${TAIL:-12}" "$WORK/$name.out"; tail -n 6 "$WORK/$name.log"; } | cut -c1-160 | sed 's/^/    /'
  pack
}

# ---- the product ----

is_bench() { "$@" --version </dev/null 2>/dev/null | grep -qi nameplate; }

# Make this checkout importable as it is: its three source roots, and the entry points of pyproject.toml by which
# suites are found. Wheels are archives, and are unpacked beside it.
use_checkout() {
  local site="$OUT/site"
  rm -rf "$site" && mkdir -p "$site" || return 1
  for wheel in ${WHEELS:+"$WHEELS"/*.whl}; do
    [ -f "$wheel" ] && "$PYTHON" -m zipfile -e "$wheel" "$site"
  done
  "$PYTHON" - "$ROOT/pyproject.toml" "$site" <<'PYTHON_END' || return 1
import pathlib, sys, tomllib

project = tomllib.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
info = pathlib.Path(sys.argv[2], f"nameplate-{project['version']}.dist-info")
info.mkdir()
info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: nameplate\nVersion: {project['version']}\n")
with info.joinpath("entry_points.txt").open("w") as file:
    for group, points in project["entry-points"].items():
        print(f"[{group}]", *(f"{name} = {where}" for name, where in points.items()), sep="\n", file=file)
PYTHON_END
  export PYTHONPATH="$site:$ROOT/src:$ROOT/kernels:$ROOT/bench${PYTHONPATH:+:$PYTHONPATH}"
}

# Say which of pyproject.toml's dependencies this Python lacks or has too old, all at once: on a machine that is lent by
# the minute, each start that finds the next one missing is lost.
list_missing() {
  "$PYTHON" - "$ROOT/pyproject.toml" <<'PYTHON_END'
import importlib.metadata, pathlib, re, sys, tomllib

wanted = tomllib.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]["dependencies"]
numbers = lambda version: [int(each) for each in re.findall(r"\d+", version.partition("+")[0])]
lacking, said = [], []
for name, least in (re.match(r"([\w.-]+)>=([\w.]+)", each).groups() for each in wanted):
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = None
    if found is None or numbers(found) < numbers(least):
        lacking.append(name)
        said.append(name if found is None else f"{name} {least} (it has {found})")
if said:
    print(f"this Python lacks {', '.join(said)}")
if "torch" in lacking:
    print("PYTHON=... names one that has torch")
elif lacking:
    python = ".".join(map(str, sys.version_info[:2]))
    print(
        f"where there is a network: python3 -m pip download --only-binary :all: --python-version {python} "
        f"-d wheels {' '.join(lacking)}; then here: --wheels wheels"
    )
PYTHON_END
}

if [ -n "${BENCH:-}" ]; then
  read -r -a NAMEPLATE <<<"$BENCH"
elif command -v bench >/dev/null && is_bench bench; then
  NAMEPLATE=(bench)
elif [ -x "$ROOT/.venv/bin/bench" ]; then
  NAMEPLATE=("$ROOT/.venv/bin/bench") PYTHON="$ROOT/.venv/bin/python"
else
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    note "$PYTHON isn't a Python of 3.11 or newer; PYTHON=... names another"
    exit 2
  }
  use_checkout || { note "this checkout can't be used under $PYTHON: see above"; exit 2; }
  NAMEPLATE=("$PYTHON" -P -m nameplate)
  MISSING="$(list_missing)"
  [ -z "$MISSING" ] || note "$MISSING"
fi
if ! is_bench "${NAMEPLATE[@]}"; then
  note "bench doesn't start (${NAMEPLATE[*]}): $("${NAMEPLATE[@]}" --version 2>&1 </dev/null | tail -n 1)"
  exit 2
fi

# ---- the machine, and whether there is a GPU ----

REHEARSAL=""
[[ "$DEVICE" == twin:* ]] && REHEARSAL="a rehearsal on $DEVICE: nothing was measured, and every figure is simulated"
[ -z "$REHEARSAL" ] || note "$REHEARSAL"

TAIL=30 step machine 40 5 bash -c '
  date -u; uname -srm; nproc; free -g 2>/dev/null | head -2
  command -v nvidia-smi >/dev/null && nvidia-smi -q
  "$0" - <<"END"
import importlib.metadata, sys
print(sys.version)
for name in ("torch", "triton", "numpy", "scipy", "pandas", "pydantic", "typer", "rich", "psutil", "nvidia-ml-py", "pytest"):
    try:
        print(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        print(name, "missing")
END' "$PYTHON"
TAIL=2 step devices 90 10 "${NAMEPLATE[@]}" devices --json
if [[ "$DEVICE" == cuda* ]] && ! grep -q '"cuda:' "$WORK/devices.out" 2>/dev/null; then
  note "no GPU that torch can use is here; see $WORK/devices.out and devices.log, or give --device cpu or twin:h200"
  exit 2
fi

# Every figure that the driver has by a number, with its type, read twice: drivers have given numbers to other figures.
if [[ "$DEVICE" == cuda* ]]; then
  # Python ends with 1 where it can't ask, which is no failed check.
  TAIL=2 step fields 20 5 bash -c '"$0" -c "$1" || exit 3' "$PYTHON" '
import time
import pynvml

pynvml.nvmlInit()
for index in range(pynvml.nvmlDeviceGetCount()):
    card = pynvml.nvmlDeviceGetHandleByIndex(index)
    for _ in range(2):
        found = pynvml.nvmlDeviceGetFieldValues(card, list(range(1, 301)))
        told = {each.fieldId: (each.valueType, each.value.ullVal) for each in found if each.nvmlReturn == 0}
        print(index, round(time.monotonic(), 3), told)
        time.sleep(0.5)
print(len(told), "of 300 numbers have a figure, as (nvmlValueType_t, value)")'
fi

# ---- by value ----

SELFTEST=("${NAMEPLATE[@]}" selftest --on "$DEVICE" --json)
[ "$DEVICE" = cpu ] || SELFTEST+=(--twin "$WORK/twin.toml")
RUN=("${NAMEPLATE[@]}" run) MEASURE=(--device "$DEVICE" --results "$RUNS")

TAIL=4 step selftest 240 30 "${SELFTEST[@]}"
TAIL=60 step quick 240 60 "${RUN[@]}" quick "${MEASURE[@]}"
TAIL=40 step soak 90 50 "${RUN[@]}" soak --budget 45 "${MEASURE[@]}"
TAIL=40 step smoke 75 20 "${RUN[@]}" smoke "${MEASURE[@]}"
if [ "$DEVICE" != cpu ]; then # what no other step launches: scaled products, and each library's attention
  TAIL=40 step eight-bit 75 50 "${RUN[@]}" --shape 8192x8192x8192 --dtype fp8_e4m3,int8 --budget 45 "${MEASURE[@]}"
  TAIL=40 step attention 75 50 "${RUN[@]}" attention --only '*/4x4096x32x8x128-causal-*' --budget 45 "${MEASURE[@]}"
fi
if [[ "$DEVICE" == cuda* ]] && [ -d "$ROOT/tests" ] && "$PYTHON" -c "import pytest" 2>/dev/null; then
  # A module of tests may want a package that isn't here: the others are run all the same.
  TAIL=30 step gpu-tests 240 40 "$PYTHON" -P -m pytest -q -m gpu --rootdir "$ROOT" -c "$ROOT/pyproject.toml" -p no:cacheprovider \
    --continue-on-collection-errors -o addopts="--import-mode=importlib --strict-markers" "$ROOT/tests/device" "$ROOT/tests/kernels"
elif is_wanted gpu-tests; then
  note "[gpu-tests] left out: they need a GPU, this checkout's tests, and pytest"
fi
# Once more: whether the first one's intervals hold what the next run gives.
TAIL=6 step again 240 70 "${RUN[@]}" quick "${MEASURE[@]}"
TAIL=40 step sensitivity 90 50 "${RUN[@]}" sensitivity --budget 45 "${MEASURE[@]}"
if [[ "$DEVICE" != twin:* ]]; then # on a twin the bare loop would compute on the host
  TAIL=8 step bare 60 25 "${NAMEPLATE[@]}" selftest --bare --device "$DEVICE" --budget 15
fi
LONG=$(($(left) - 30))
[ "$LONG" -gt 1200 ] && LONG=1200
# In less than four minutes its forty cases are all in doubt.
TAIL=60 step standard $((LONG > 60 ? LONG + 20 : 60)) 240 "${RUN[@]}" standard --budget "$((LONG > 60 ? LONG - 20 : 40))" "${MEASURE[@]}"

[ -z "$REHEARSAL" ] || note "$REHEARSAL"
note "spent $SECONDS s of $TOTAL; packed into $PACK"
exit "$WORST"
