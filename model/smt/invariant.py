"""The invariant by clauses, the promises that follow from it, and the initial states.

Each clause is a sentence and a formula. The first clauses are about the filesystem; the others are
about a participant in each of its states, by `machine.KNOWN`.
"""

from typing import Dict, List

from calls import Effect
from formulas import Formula, both, is_in, places
from machine import BELIEVES, CHILDREN, IDLE, KNOWN, knowing


def every(names: str, body: Formula) -> Formula:
    """True of all participants p, q and files f, g that `names` lists."""
    return f"(forall ({places(names.split())}) {body})"


def when_at(fact: str, body: Formula) -> Formula:
    """True of every participant p at a state in which `fact` is known."""
    return every("p", f"(=> {is_in(knowing(fact), 'p')} {body})")


def of_mine(fact: str, body: Formula) -> Formula:
    """True of the file f that a participant p has open where `fact` is known."""
    return every("p f", f"(=> (and {is_in(knowing(fact), 'p')} (open p f)) {body})")


IDLES = [state for state, known in KNOWN.items() if "open" not in known.split()]

CLAUSES: Dict[str, Formula] = {
    "the path names at most one file": every("f g", "(=> (and (path f) (path g)) (= f g))"),
    "a participant has at most one file open": every(
        "p f g", "(=> (and (open p f) (open p g)) (= f g))"
    ),
    "a kernel lock has one open file": every(
        "p q f", "(=> (and (lock p f) (lock q f)) (or (= p q) (shares p q)))"
    ),
    "sharers have the same file open": every(
        "p q f", "(=> (and (shares p q) (open p f)) (open q f))"
    ),
    "sharing is mutual": every("p q", "(=> (shares p q) (and (shares q p) (not (= p q))))"),
    "sharing is transitive": every(
        "p q r", "(=> (and (shares p q) (shares q r)) (or (= p r) (shares p r)))"
    ),
    "only forked children share": every(
        "p q", f"(=> (shares p q) (or {is_in(CHILDREN, 'p')} {is_in(CHILDREN, 'q')}))"
    ),
    "the owner of a kernel lock has the file open": every("p f", "(=> (lock p f) (open p f))"),
    "without kernel locks no participant has one": every("p f", "(=> (lock p f) locks)"),
    "a file has one creator": every("p q f", "(=> (and (made p f) (made q f)) (= p q))"),
    "a record has one author": every("p q f", "(=> (and (author p f) (author q f)) (= p q))"),
    "a file with an author has a record": every("p f", "(=> (author p f) (record f))"),
    "the author of a record created the file": every("p f", "(=> (author p f) (made p f))"),
    "has no file open": every("p f", f"(=> (open p f) (not {is_in(IDLES, 'p')}))"),
    "shares no open file": every("p q", f"(=> (shares p q) (not {is_in(IDLES, 'p')}))"),
    "has a file open": when_at("open", "(exists ((f F)) (open p f))"),
    "created its open file": of_mine("made", "(made p f)"),
    "has the kernel lock": when_at("lock", "(exists ((f F)) (lock p f))"),
    "has the kernel lock if there are kernel locks": when_at(
        "lock?", "(=> locks (exists ((f F)) (lock p f)))"
    ),
    "lacks the kernel lock only where there are none": when_at("no-locks", "(not locks)"),
    "wrote the record in its open file": of_mine("author", "(author p f)"),
    "has the named file open": of_mine("path", "(path f)"),
}

INITIALLY: List[Formula] = [
    every("p", f"(= (state p) {IDLE})"),
    # The path is free, or names an old file: with a dead process's record, an old agent's, or none.
    every("f g", "(=> (and (path f) (path g)) (= f g))"),
    every("p f", "(not (or (open p f) (lock p f) (made p f) (author p f)))"),
    every("p q", "(not (shares p q))"),
]

_P_BELIEVES, _Q_BELIEVES = is_in(BELIEVES, "p"), is_in(BELIEVES, "q")

# P1 follows from the invariant.
P1: Dict[str, Formula] = {
    "P1: at most one participant holds": every(
        "p q", f"(=> (and {_P_BELIEVES} {_Q_BELIEVES}) (= p q))"
    ),
    "P1: a holder has a file open": every(
        "p", f"(=> {_P_BELIEVES} (exists ((f F)) (open p f)))"
    ),
    "P1: the path names a holder's file": every(
        "p f", f"(=> (and {_P_BELIEVES} (open p f)) (path f))"
    ),
    "P1: a holder's record is in its file": every(
        "p f", f"(=> (and {_P_BELIEVES} (open p f)) (author p f))"
    ),
    "P1: a holder has the kernel lock on its file, if there are kernel locks": every(
        "p f", f"(=> (and {_P_BELIEVES} (open p f) locks) (lock p f))"
    ),
    "P1: a holder with the guarantee KernelLock has the kernel lock": every(
        "p f", "(=> (and (= (state p) |Acquire Held(KernelLock)|) (open p f)) (lock p f))"
    ),
    "P1: a holder with the guarantee ExclusiveCreate is where there are no kernel locks": every(
        "p", "(=> (= (state p) |Acquire Held(ExclusiveCreate)|) (not locks))"
    ),
}

# P2, for each row that removes a file: `me` removes the file at the path.
P2: Dict[str, Formula] = {
    "P2: the removed file is the remover's open file": every("f", "(=> (path f) (open me f))"),
    "P2: the remover created it or has its kernel lock": every(
        "f", "(=> (path f) (or (made me f) (lock me f)))"
    ),
    "P2: no other holder has it open": every(
        "p f", f"(=> (and (path f) (open p f) {_P_BELIEVES}) (= p me))"
    ),
    "P2: where there are kernel locks the remover has the lock": every(
        "f", "(=> (and locks (path f)) (lock me f))"
    ),
}


def removes(effect: Effect) -> bool:
    """Whether a file loses its name."""
    return effect.then.get("path") == "false"


def invariant() -> Formula:
    """All clauses."""
    return both(CLAUSES.values())


# The facts of `machine.KNOWN` as sentences about a participant.
_IN_WORDS = {
    "open": "it has a file open",
    "made": "it created that file",
    "lock": "it has the file's kernel lock",
    "lock?": "it has the file's kernel lock if there are kernel locks",
    "no-locks": "there are no kernel locks",
    "author": "the record in the file is its own",
    "path": "the path names the file",
    "mine": "the file is its own",
}


def in_words() -> List[str]:
    """The invariant in words: the clauses, and the facts by state."""
    alike: Dict[str, List[str]] = {}
    for state, known in KNOWN.items():
        facts = "; ".join(_IN_WORDS[fact] for fact in known.split()) or "it has no file open"
        alike.setdefault(facts, []).append(state)
    of_the_filesystem = [clause for clause in CLAUSES if not clause.startswith(_OF_A_STATE)]
    lines = ["Always:", *(f"  {clause}" for clause in of_the_filesystem)]
    for facts, states in alike.items():
        lines += [f"{facts}:", f"  {', '.join(states)}"]
    return lines


# Clauses about the facts of `KNOWN`.
_OF_A_STATE = ("has ", "created ", "wrote ", "lacks ", "shares no ")
