"""What can't be compared at all: two ways of measuring, two kinds of device, two parts, nothing in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nameplate.base.errors import InputError
from nameplate.compare.looks import Look, Side
from nameplate.compare.terms import Terms

WHERE = "bench compare"


def refuse(base: Side, new: Side, terms: Terms) -> None:
    """Raise InputError where a ratio of these sides would say nothing of what differs between them."""
    if len({run.way for side in (base, new) for run in side.runs}) > 1:
        ways = [_words(run.way for run in side.runs) for side in (base, new)]
        raise _two("figures were measured in two ways", ways, "one way: measure one of them again")
    kinds = [_of_looks(side, lambda look: look.kind) for side in (base, new)]
    if len(set(kinds)) > 1:
        raise _two("two kinds of device", kinds, "one")
    parts = [_of_looks(side, lambda look: look.part) for side in (base, new)]
    if len(set(parts)) > 1 and not terms.across_parts:
        raise _two("two parts", parts, "one part, or --across-parts")
    _refuse_nothing_in_common(base, new, terms)


def _two(what: str, got: list[str], expected: str) -> InputError:
    base, new = got
    return InputError(what, where=WHERE, got=f"{base} in base, {new} in new", expected=expected)


def _words(of: Iterable[str]) -> str:
    return " and ".join(sorted(set(of)))


def _of_looks(side: Side, word: Callable[[Look], str]) -> str:
    return _words(word(look) for run in side.runs for look in run.looks)


def _refuse_nothing_in_common(base: Side, new: Side, terms: Terms) -> None:
    told = [_cases(side) for side in (base, new)]
    common = told[0] & told[1]
    if not common:
        raise InputError(
            "no case is in both",
            where=WHERE,
            got=f"{len(told[0])} cases in base, {len(told[1])} in new",
            expected="runs of one suite",
        )
    if not any(terms.takes(case) for case in common):
        raise InputError(
            "no case that is in both matches",
            where="--only",
            got=terms.only,
            expected=f"a glob over ids such as {min(common)}",
        )


def _cases(side: Side) -> set[str]:
    return {look.case for run in side.runs for look in run.looks}
