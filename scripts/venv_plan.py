"""What to install, and whether to: the decisions behind .venv, as functions of what was found on the machine.

Nothing here touches a file, a process or the network.
"""

from __future__ import annotations

import enum
import hashlib
import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class SetupError(Exception):
    """A set-up that can't go on; the message is one sentence for the user."""


@dataclass(frozen=True)
class Machine:
    """What a Python that is here already brings along: the one that runs the set-up, or the machine's own."""

    packages: Mapping[str, str]
    """Installed distributions: normalised name to version."""
    gpu: str | None
    """The GPU on which that Python's torch has just computed something; None where there is none."""


@dataclass(frozen=True)
class Plan:
    """How .venv will be made."""

    over_site: bool
    """Whether .venv also sees the packages of a Python that is here already."""
    attempts: tuple[Mapping[str, str], ...]
    """Sets of exact versions, to be tried in this order until pip finds a solution under one of them."""
    why: str
    """The decision in one sentence, for the user."""
    python: str = ""
    """The Python whose packages .venv also sees; empty where it sees none."""


class Step(enum.Enum):
    """What a call finds to do with the folder it is given."""

    NOTHING = "nothing"
    UPDATE = "update"  # pip over a whole environment
    REMAKE = "remake"  # an environment of ours that can't be trusted
    CREATE = "create"
    REFUSE = "refuse"  # a folder that is no environment


@dataclass(frozen=True)
class Folder:
    """What is known of the folder that is to hold the environment."""

    empty: bool
    """It is empty, or isn't there."""
    python: str | None
    """Its Python as "3.11"; None where it holds none that can be started."""
    begun: bool
    """A set-up of ours began here and didn't end."""
    stamp: str | None
    """What the last finished set-up left; None where none has finished."""


def normalise(name: str) -> str:
    """Spell a distribution's name in the one form that compares equal: `typing-extensions`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_class() -> Any:
    """Return `Requirement`, from packaging or from the copy inside pip.

    Raises SetupError where this Python has neither.
    """
    for module in ("packaging.requirements", "pip._vendor.packaging.requirements"):
        try:
            return importlib.import_module(module).Requirement
        except ImportError:
            continue
    raise SetupError(
        "packaging: this Python has a torch but neither packaging nor pip, one of which is needed to "
        "compare versions; add pip: python3 -m ensurepip"
    )


def direct_requirements(project: Mapping[str, Any], extra: str = "dev") -> dict[str, Any]:
    """Collect what `.[extra]` of this [project] table asks for by name, extras of its own resolved.

    Returns name to SpecifierSet; a name asked for twice gets both.
    """
    requirement = requirement_class()
    own = normalise(project["name"])
    waiting = [*project["dependencies"], *project["optional-dependencies"][extra]]
    specifiers: dict[str, Any] = {}
    while waiting:
        wanted = requirement(waiting.pop())
        name = normalise(wanted.name)
        if name == own:
            waiting += [line for part in wanted.extras for line in project["optional-dependencies"][part]]
        elif wanted.marker is None or wanted.marker.evaluate():
            both = specifiers.get(name)
            specifiers[name] = wanted.specifier if both is None else both & wanted.specifier
    return specifiers


def read_pins(text: str) -> dict[str, str]:
    """Read `name==version` lines; comments and blank lines are passed over."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return {normalise(name): version for name, _, version in (line.partition("==") for line in lines if line)}


def satisfying(requirements: Mapping[str, Any], packages: Mapping[str, str]) -> dict[str, str]:
    """Pick the installed packages that are asked for and whose version will do.

    A site's own builds are often pre-releases (2.12.0a0+site), so these count.
    """
    return {
        name: packages[name]
        for name, specifier in requirements.items()
        if name in packages and _contains(specifier, packages[name])
    }


def _contains(specifier: Any, version: str) -> bool:
    try:
        return bool(specifier.contains(version, prereleases=True))
    except ValueError:  # InvalidVersion: not one that pip could compare either
        return False


def plan(requirements: Mapping[str, Any], pins: Mapping[str, str], machine: Machine, index_url: str) -> Plan:
    """Decide whether .venv is made over the machine's own packages, and which versions it gets.

    A torch that works on this machine's GPU is kept: a site's build fits its driver and its interconnect, and
    nothing downloaded would be sure to. TORCH_INDEX_URL is an explicit wish for another torch, and wins.
    """
    pins = dict(pins)
    if index_url:
        return Plan(False, (pins,), f"torch {pins.get('torch', '')} will come from {index_url}")
    torch = machine.packages.get("torch")
    if torch is None:
        return Plan(False, (pins,), "this Python has no torch of its own: .venv gets everything")
    kept = satisfying(requirements, machine.packages)
    if "torch" not in kept:
        needed = requirements["torch"]
        return Plan(False, (pins,), f"this Python's torch {torch} isn't torch{needed}: .venv gets everything")
    if machine.gpu is None:
        return Plan(False, (pins,), f"this Python's torch {torch} has no working GPU: .venv gets everything")
    others = f"{len(kept) - 1} other packages that are here"
    why = f"keeping this Python's torch {torch}, which works on {machine.gpu}, and {others}"
    return Plan(True, (merged(requirements, pins, kept, machine.packages), kept), why)


def merged(
    requirements: Mapping[str, Any],
    pins: Mapping[str, str],
    kept: Mapping[str, str],
    packages: Mapping[str, str],
) -> dict[str, str]:
    """Pin what is kept to what is there, and what isn't there, or won't do, to constraints.txt.

    A package that is there, but that only others ask for, gets no line: pip leaves it alone as long as its
    version suits them all. A pin would download it again; fixing it could contradict a newer package.
    """
    left_to_pip = set(packages) - set(requirements)
    return {**{name: version for name, version in pins.items() if name not in left_to_pip}, **kept}


def constraint_lines(versions: Mapping[str, str]) -> str:
    """Write exact versions as a constraints file."""
    return "".join(f"{name}=={version}\n" for name, version in sorted(versions.items()))


def pip_installs(
    constraints: str, build_requires: Sequence[str], index_url: str
) -> tuple[tuple[str, ...], ...]:
    """List the calls of `pip install`, as arguments, that fill .venv under one constraints file.

    The build backend is installed first and build isolation is off, because an isolated build would take
    whichever backend is newest. A torch from an index of its own comes without its dependencies, of which
    such an index has few versions; the last call adds them, and still sees the index for what only it has.
    """
    install = ("install", "-c", constraints)
    index = ("--extra-index-url", index_url) if index_url else ()
    torch = ((*install, "--no-deps", "--index-url", index_url, "torch"),) if index_url else ()
    everything = (*install, *index, "--no-build-isolation", "-e", ".[dev]")
    return ((*install, *build_requires), *torch, everything)


def stamp(inputs: Iterable[bytes], index_url: str, python: str) -> str:
    """Describe a finished set-up: equal text means that nothing has to be done.

    The Makefile reads the TORCH_INDEX_URL line.
    """
    digest = hashlib.sha256(b"\0".join(inputs)).hexdigest()
    return f"TORCH_INDEX_URL={index_url}\npython={python}\ninputs={digest}\n"


def next_step(folder: Folder, wanted: str, python: str) -> Step:
    """Decide what to do with the folder, where `wanted` is the stamp of a finished set-up.

    A set-up that was killed may have left half a package that pip takes for a whole one, so it is made again
    from nothing; pip's cache still has what was downloaded. An environment made by hand is completed.
    """
    if folder.empty:
        return Step.CREATE
    ours = folder.begun or folder.stamp is not None
    if not ours and folder.python is None:
        return Step.REFUSE
    if folder.begun or folder.python is None:
        return Step.REMAKE
    if folder.stamp == wanted:
        return Step.NOTHING
    if folder.python != python:
        return Step.REMAKE if ours else Step.REFUSE
    return Step.UPDATE
