"""The obligations, as SMT-LIB scripts.

There is one script for each row of the table. It says: there are any number of participants and
files; the invariant holds; a participant `me` is in the row's state and gets the row's reply; the
call determines the next state (`state-after`, `open-after` and so on). Then there is one obligation
for each clause of the invariant: can the clause be false afterwards? The answer must be `unsat`.

No function maps files to participants, so a satisfiable script has a model with a few of each: the
solvers can decide every query here, and each refutation has a small counterexample.
"""

from dataclasses import dataclass
from typing import Dict, Iterable, List, Tuple

from calls import Effect, Semantics
from formulas import RELATIONS, SORTS, Formula, afterwards, is_in, places, quoted
from invariant import CLAUSES, INITIALLY, P1, P2, invariant, removes
from machine import HELD, KNOWN, Row
from solvers import QUESTION

# The caller, the participant that forked it, and the files of its call.
NAMES = [("me", "P"), ("parent", "P"), ("mine", "F"), ("new", "F"), ("found", "F")]


@dataclass(frozen=True)
class Script:
    """The premises, and the named claims that must follow from them."""

    title: str
    given: Tuple[str, ...]
    claims: Tuple[Tuple[str, Formula], ...]

    def text(self) -> str:
        """One query for each claim: can it be false?"""
        lines = [f"; {self.title}", DECLARATIONS, *self.given]
        for name, claim in self.claims:
            lines += [f"; {name}", "(push 1)", f"(assert (not {claim}))", QUESTION, "(pop 1)"]
        return "\n".join(lines)

    def refutation(self, name: str) -> str:
        """The query for a counterexample to one claim."""
        claim = dict(self.claims)[name]
        return "\n".join([DECLARATIONS, *self.given, f"(assert (not {claim}))"])


def initiation() -> Script:
    """The invariant holds initially."""
    given = tuple(asserted(INITIALLY))
    return Script("At the beginning", given, tuple(CLAUSES.items()))


def promise() -> Script:
    """The invariant implies P1."""
    return Script("Where the invariant holds", tuple(asserted([invariant()])), tuple(P1.items()))


def preservation(row: Row, semantics: Semantics) -> Script:
    """The row's step keeps the invariant, and P2 if it removes a file."""
    effect = semantics.effect(row.call, row.reply)
    changed = [*effect.then, *(["state"] if row.next != row.state else [])]
    claims = {clause: afterwards(formula, changed) for clause, formula in CLAUSES.items()}
    # A clause about unchanged relations is a premise and needs no query.
    claims = {clause: claim for clause, claim in claims.items() if claim != CLAUSES[clause]}
    if removes(effect):
        claims.update(P2)
    given = (*asserted([invariant()]), *possible(row, effect), *change(row, effect))
    return Script(str(row), given, tuple(claims.items()))


def enabled(row: Row, semantics: Semantics) -> str:
    """Is the row's step possible? The answer must be `sat`."""
    effect = semantics.effect(row.call, row.reply)
    return "\n".join([DECLARATIONS, *asserted([invariant()]), *possible(row, effect), QUESTION])


def coexist(holder: str, state: str) -> str:
    """Can a participant be in `state` while another is in `holder`?"""
    both = ["(not (= me p))", is_in([state], "me"), is_in([holder], "p")]
    other = "(declare-const p P)"
    return "\n".join([DECLARATIONS, other, *asserted([invariant(), *both]), QUESTION])


def crowd(states: Iterable[str]) -> str:
    """Can there be a participant in each of these states at once?"""
    lines, names = [DECLARATIONS, *asserted([invariant()])], []
    for number, state in enumerate(states):
        names.append(f"p{number}")
        lines += [f"(declare-const p{number} P)", *asserted([is_in([state], f"p{number}")])]
    return "\n".join([*lines, f"(assert (distinct {' '.join(names)}))", QUESTION])


def asserted(formulas: Iterable[Formula]) -> List[str]:
    return [f"(assert {formula})" for formula in formulas]


def possible(row: Row, effect: Effect) -> List[str]:
    """`me` is in the row's state, and the row's reply is possible."""
    opened = ["(open me mine)"] if effect.on_open_file else []
    return asserted([is_in([row.state], "me"), *opened, *effect.when])


def change(row: Row, effect: Effect) -> List[str]:
    """The changed relations, in terms of the state before."""
    following = f"(ite (= p me) {quoted(row.next)} (state p))"
    lines = [f"(define-fun state-after ((p P)) State {following})"]
    for relation, now in effect.then.items():
        bound = places(RELATIONS[relation])
        lines.append(f"(define-fun {relation}-after ({bound}) Bool {now})")
    return lines


def declarations() -> str:
    states = " ".join(f"({quoted(state)})" for state in KNOWN)
    return "\n".join(
        [
            "(set-logic ALL)",
            "(declare-sort P 0)",
            "(declare-sort F 0)",
            f"(declare-datatypes ((State 0)) (({states})))",
            "(declare-fun state (P) State)",
            *(
                f"(declare-fun {relation} ({' '.join(SORTS[name] for name in names)}) Bool)"
                for relation, names in RELATIONS.items()
            ),
            *(f"(declare-const {name} Bool)" for name in ("locks", "late")),
            *(f"(declare-const {name} {sort})" for name, sort in NAMES),
        ]
    )


DECLARATIONS = declarations()

# A more instructive counterexample: another participant holds the named file with a kernel lock.
ANOTHER_HOLDS = (
    "(and locks (exists ((q P) (g F)) "
    f"(and (not (= q me)) (open q g) (path g) {is_in(HELD, 'q')})))"
)


def excludes(holder: str, state: str) -> bool:
    """Whether no participant can be in `state` while another is in `holder`: mutual exclusion.

    The path names the file of both; or one has a kernel lock, and for the other there are none.
    """
    known, held = KNOWN[state].split(), KNOWN[holder].split()
    return "path" in known or {"lock", "no-locks"} <= {*known, *held}


def company(holder: str) -> Dict[str, bool]:
    """For each state, whether another participant may be in it while one is in `holder`."""
    assert holder in HELD
    return {state: not excludes(holder, state) for state in KNOWN}
