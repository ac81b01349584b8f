"""The score by operator, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from tests.conformance.corpora import CORPORA, Case
from tests.conformance.judge import Outcome
from tests.conformance.scope import OPERATORS, left_out

WANTED = 0.95
"""Share of the counted cases that must match."""


def promised(cases: Mapping[str, Case]) -> dict[str, tuple[str, str]]:
    """The cases of one promised operator: by name the operator, and why it does not count, empty if it does."""
    reasons = {name: left_out(case) for name, case in cases.items()}
    return {
        name: (cases[name].model.graph.node[0].op_type, reason)
        for name, reason in reasons.items()
        if reason is not None
    }


def table(cases: Mapping[str, Case], outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    """Lines: a row for each operator, what does not count and why, and all cases by corpus."""
    rows_of = promised(cases)
    operators = {name: op for name, (op, reason) in rows_of.items() if not reason}
    yield f"{'operator':22}{'cases':>7}{'counted':>9}{'matched':>9}{'refused':>9}{'share':>9}"
    rows: list[tuple[str, list[int]]] = []
    for op in OPERATORS:
        names = [name for name, own in operators.items() if own == op]
        cases_of = sum(own == op for own, _ in rows_of.values())
        kinds = Counter(outcomes[name].kind for name in names)
        rows.append((op, [cases_of, len(names), kinds["matched"], len(names) - kinds["matched"]]))
    rows.append(("all", [sum(column) for column in zip(*(counts for _, counts in rows), strict=True)]))
    for op, (every, total, matched, refused) in rows:
        percent = f"{100 * matched / total:.1f} %" if total else "-"
        yield f"{op:22}{every:>7}{total:>9}{matched:>9}{refused:>9}{percent:>9}"
    yield ""
    yield "do not count"
    why = Counter(reason for _, reason in rows_of.values() if reason)
    yield from (f"{count:>7}  {reason}" for reason, count in why.most_common())
    yield ""
    yield f"{'corpus':22}{'cases':>7}{'matched':>9}{'refused':>9}{'other':>9}"
    for corpus in CORPORA:
        kinds = Counter(outcomes[name].kind for name, case in cases.items() if case.corpus == corpus)
        other = kinds.total() - kinds["matched"] - kinds["refused"]
        yield f"{corpus:22}{kinds.total():>7}{kinds['matched']:>9}{kinds['refused']:>9}{other:>9}"
    yield ""
    yield "counted, but not matched"
    for name in operators:
        if outcomes[name].kind != "matched":
            yield f"  {name}: {outcomes[name].message[:110]}"
