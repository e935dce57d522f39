"""Fits the model of MFU to the published runs and writes its coefficients: `make mfu`."""

from __future__ import annotations

from pathlib import Path

from nameplate.fleet.mfu_fit import fit, observe_all
from nameplate.fleet.mfu_model import FEATURES, FILE, MfuModel

TARGET = Path(__file__).parents[1] / "src/nameplate/fleet/data" / FILE
_HEAD = """\
# The model of MFU as `make mfu` fits it to training_runs.csv (nameplate.fleet.mfu_fit).
# logit(MFU) = sum of coefficient × feature + effect of the generation. Order of `mean` and `covariance`:
# {features}, then `generations`.
# The standard deviations are those of generations, of studies and of runs around it.
"""


def write(model: MfuModel) -> str:
    """The model as TOML."""
    given = model.model_dump(by_alias=True)
    lines = [_HEAD.format(features=", ".join(FEATURES))]
    for name in ("schema", "n_runs", "n_families", "fitted_with", "generations", "runs_of_generation"):
        value = given[name]
        lines.append(f"{name} = {_quote(value)}")
    for name in ("sd_generation", "sd_study", "sd_run"):
        lines.append(f"{name} = {given[name]!r}")
    lines.append(f"mean = {_quote(given['mean'])}")
    lines += ["covariance = [", *(f"  {_quote(row)}," for row in given["covariance"]), "]"]
    years = ", ".join(f"{{ first = {each['first']}, last = {each['last']} }}" for each in given["years"])
    lines.append(f"years = [{years}]")
    parts = ", ".join(f"{part} = {count}" for part, count in given["runs_of_part"].items())
    lines.append(f"runs_of_part = {{ {parts} }}")
    for name in ("devices", "parameters", "context"):
        lines.append(f"{name} = {{ least = {given[name]['least']!r}, most = {given[name]['most']!r} }}")
    return "\n".join(lines) + "\n"


def _quote(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_quote, value)) + "]"
    return repr(value)


if __name__ == "__main__":
    TARGET.write_text(write(fit(observe_all())), encoding="utf-8")
    print(TARGET)
