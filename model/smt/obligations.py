"""The obligations, as SMT-LIB scripts.

One script a row of the table. It reads: there are participants and files, as many as you like; the
invariant holds; a participant `me` is at the row's state and the row's reply comes; the state that
follows (`state-after`, `open-after` and so on) is what the call makes of it. Then, one obligation
a clause of the invariant: can the clause be false afterwards? The answer must be `unsat`.

No function leads from files back to participants, so that a script that can be satisfied can be
satisfied with a few of each: the solvers can decide every question here, and each refutation has a
small counterexample.
"""

from dataclasses import dataclass
from typing import Dict, Iterable, List, Tuple

from calls import Effect, Semantics
from formulas import RELATIONS, SORTS, Formula, afterwards, is_in, places, quoted
from invariant import CLAUSES, INITIALLY, P1, P2, invariant, removes
from machine import HELD, KNOWN, Row
from solvers import QUESTION

# Who calls, by whom it was forked, and the files that its call is about.
NAMES = [("me", "P"), ("parent", "P"), ("mine", "F"), ("new", "F"), ("found", "F")]


@dataclass(frozen=True)
class Script:
    """What is given, and what must follow from it, each under its name."""

    title: str
    given: Tuple[str, ...]
    claims: Tuple[Tuple[str, Formula], ...]

    def text(self) -> str:
        """One question a claim: can it be false?"""
        lines = [f"; {self.title}", DECLARATIONS, *self.given]
        for name, claim in self.claims:
            lines += [f"; {name}", "(push 1)", f"(assert (not {claim}))", QUESTION, "(pop 1)"]
        return "\n".join(lines)

    def refutation(self, name: str) -> str:
        """The same for one claim alone, as a question for a counterexample."""
        claim = dict(self.claims)[name]
        return "\n".join([DECLARATIONS, *self.given, f"(assert (not {claim}))"])


def initiation() -> Script:
    """Where all begins, the invariant holds."""
    given = tuple(asserted(INITIALLY))
    return Script("At the beginning", given, tuple(CLAUSES.items()))


def promise() -> Script:
    """Where the invariant holds, P1 does."""
    return Script("Where the invariant holds", tuple(asserted([invariant()])), tuple(P1.items()))


def preservation(row: Row, semantics: Semantics) -> Script:
    """After the row's step the invariant holds again; what it removes, it may (P2)."""
    effect = semantics.effect(row.call, row.reply)
    changed = [*effect.then, *(["state"] if row.next != row.state else [])]
    claims = {clause: afterwards(formula, changed) for clause, formula in CLAUSES.items()}
    # A clause that speaks of nothing that changes is among what is given: no question.
    claims = {clause: claim for clause, claim in claims.items() if claim != CLAUSES[clause]}
    if removes(effect):
        claims.update(P2)
    given = (*asserted([invariant()]), *possible(row, effect), *change(row, effect))
    return Script(str(row), given, tuple(claims.items()))


def enabled(row: Row, semantics: Semantics) -> str:
    """Can the row's step be made at all? The answer must be `sat`."""
    effect = semantics.effect(row.call, row.reply)
    return "\n".join([DECLARATIONS, *asserted([invariant()]), *possible(row, effect), QUESTION])


def beside(holder: str, state: str) -> str:
    """Can a participant be at `state` while another is at `holder`?"""
    both = ["(not (= me p))", is_in([state], "me"), is_in([holder], "p")]
    someone = "(declare-const p P)"
    return "\n".join([DECLARATIONS, someone, *asserted([invariant(), *both]), QUESTION])


def crowd(everybody: Iterable[str]) -> str:
    """Can there be a participant at each of these states at once?"""
    lines, names = [DECLARATIONS, *asserted([invariant()])], []
    for number, state in enumerate(everybody):
        names.append(f"p{number}")
        lines += [f"(declare-const p{number} P)", *asserted([is_in([state], f"p{number}")])]
    return "\n".join([*lines, f"(assert (distinct {' '.join(names)}))", QUESTION])


def asserted(formulas: Iterable[Formula]) -> List[str]:
    return [f"(assert {formula})" for formula in formulas]


def possible(row: Row, effect: Effect) -> List[str]:
    """`me` is at the row's state, and the row's reply can come."""
    opened = ["(open me mine)"] if effect.on_open_file else []
    return asserted([is_in([row.state], "me"), *opened, *effect.when])


def change(row: Row, effect: Effect) -> List[str]:
    """What changes, in terms of what held before."""
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

# What makes a counterexample telling: another holds, what the path names and with a kernel lock.
SOMEBODY_HOLDS = (
    "(and locks (exists ((q P) (g F)) "
    f"(and (not (= q me)) (open q g) (path g) {is_in(HELD, 'q')})))"
)


def excludes(holder: str, state: str) -> bool:
    """Whether nobody can be at `state` while another is at `holder`: what makes the lock one.

    Both know that the path names their file; or one knows of a kernel lock, the other of none.
    """
    known, held = KNOWN[state].split(), KNOWN[holder].split()
    return "path" in known or {"lock", "no-locks"} <= {*known, *held}


def company(holder: str) -> Dict[str, bool]:
    """Each state, and whether another may be there beside this holder."""
    assert holder in HELD
    return {state: not excludes(holder, state) for state in KNOWN}
