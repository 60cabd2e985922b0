"""The machines, as the model prints them, and the known facts in each of their states.

The model prints a table for each machine by running its code: a state, a reply, the next state.
Here it is read and shortened: reasons, ages and the next step after a close are dropped, so that
states which differ only in them become one. That only adds behaviour, so what is proved for the
short table holds for the full one."""

import re
from dataclasses import dataclass
from typing import Dict, Iterable, List, Mapping, Set

from calls import CALLS

# The only contents of a state on which safety depends.
KEPT = ["KernelLock", "ExclusiveCreate", "Ours", "Dead", "Created"]

IDLE = "Idle"
HELD = ["Acquire Held(KernelLock)", "Acquire Held(ExclusiveCreate)"]
# It still holds, after a failed release.
STILL_HELD = "Release Kept"

# The known facts in each state: the invariant by state. A missing state is an error.
#
#   open      it has a file open: `mine`; in all states without this, it has none
#   made      it created that file
#   lock      it has its kernel lock, so there are kernel locks
#   lock?     it has its kernel lock, if there are kernel locks
#   no-locks  there are no kernel locks
#   author    the record in it is its own
#   path      the path names it
KNOWN: Dict[str, str] = {
    IDLE: "",
    "Acquire Creating": "",
    "Acquire LockingCreated": "open made",
    "Acquire Recording(KernelLock)": "open made lock",
    "Acquire Recording(ExclusiveCreate)": "open made no-locks",
    "Acquire ConfirmingCreated(KernelLock)": "open made lock author",
    "Acquire ConfirmingCreated(ExclusiveCreate)": "open made no-locks author",
    "Acquire Held(KernelLock)": "open made lock author path",
    "Acquire Held(ExclusiveCreate)": "open made no-locks author path",
    "Acquire Opening": "",
    "Acquire CheckingAge": "open",
    "Acquire ReadingUnlocked": "open",
    "Acquire LockingExisting": "open",
    "Acquire Reading": "open lock",
    "Acquire Judging": "open",
    "Acquire Judging(Ours)": "open lock",
    "Acquire Confirming": "open",
    "Acquire Confirming(Dead)": "open lock",
    "Acquire Confirming(Ours)": "open lock",
    "Acquire Unlinking": "open lock path",
    "Acquire Blocked": "open",
    "Acquire Blocked(Ours)": "open lock",
    "Acquire Revalidating": "open lock",
    "Acquire Subscribing": "open",
    "Acquire Rechecking": "open",
    "Acquire Retrying": "open",
    "Acquire Listening": "open",
    "Acquire CleanupLocking": "open made",
    "Acquire CleanupVerifying": "open made lock?",
    "Acquire CleanupUnlinking": "open made lock? path",
    "Acquire Truncating": "open made",
    "Acquire Closing": "open",
    "Acquire Pausing": "",
    "Acquire Pausing(Created)": "open made",
    "Release Confirming": "open made lock? author path",
    "Release Unlinking": "open made lock? author path",
    "Release ReleaseFailed": "open made lock? author path",
    STILL_HELD: "open made lock? author path",
    "Release Truncating": "open made lock?",
    "Release Closing": "open",
    "Release Leaving": "open",
    "Child": "open",
    "Query Opening": "",
    "Query CheckingAge": "open",
    "Query Reading": "open",
    "Query Judging": "open",
    "Query Watching": "open",
    "Query Confirming": "open",
    "Query Closing": "open",
    "Query Pausing": "",
}

# A clear has states of an acquire, with the same facts.
CLEARING = [
    "Opening",
    "CheckingAge",
    "ReadingUnlocked",
    "LockingExisting",
    "Reading",
    "Judging",
    "Judging(Ours)",
    "Confirming",
    "Confirming(Dead)",
    "Confirming(Ours)",
    "Unlinking",
    "Blocked",
    "Blocked(Ours)",
    "Closing",
    "Pausing",
]
KNOWN.update({f"Clear {state}": KNOWN[f"Acquire {state}"] for state in CLEARING})

# The states of a holder in P1: from the confirm of its file to the unlink of its release.
BELIEVES = [*HELD, STILL_HELD, "Release Confirming", "Release Unlinking", "Release ReleaseFailed"]

# A forked participant with its parent's open file, and its release.
CHILD = "Child"
CHILDREN = [CHILD, "Release Leaving"]

_OUTSIDE_REMOVAL = "the path names its file, which only a removal from outside can change"
# Rows that no state of the invariant allows, with the reasons.
UNREACHED = {
    "Acquire Unlinking, Unlink(Absent) -> Acquire Closing": _OUTSIDE_REMOVAL,
    "Acquire CleanupUnlinking, Unlink(Absent) -> Acquire Closing": _OUTSIDE_REMOVAL,
    "Clear Unlinking, Unlink(Absent) -> Clear Closing": _OUTSIDE_REMOVAL,
    "Release Confirming, Confirm(Changed) -> Release Truncating": _OUTSIDE_REMOVAL,
    "Release Unlinking, Unlink(Absent) -> Release Truncating": _OUTSIDE_REMOVAL,
}

_WITHOUT_LOCKS = (
    "without kernel locks force may remove the file of a holder, which is outside P1 and P2. With "
    "kernel locks force requires the lock, and its rows are proved"
)
# Rows that break the invariant, and are not proved.
EXCEPTED = {
    "Acquire Blocked, force -> Acquire Confirming(Dead)": _WITHOUT_LOCKS,
    "Clear Blocked, force -> Clear Confirming(Dead)": _WITHOUT_LOCKS,
}


@dataclass(frozen=True)
class Row:
    """A participant that is at `state` makes `call`, gets `reply`, and is at `next`."""

    state: str
    call: str
    reply: str
    next: str

    def __str__(self) -> str:
        said = self.reply if self.call == "driver" else f"{self.call}({self.reply})"
        return f"{self.state}, {said} -> {self.next}"


def short(machine: str, state: str) -> str:
    """The name of a state with only what safety depends on; an end is idle."""
    kind, *carried = re.findall(r"\w+", state)
    if (machine, kind) in [("Acquire", "Refused"), ("Acquire", "Failed")]:
        return IDLE
    if (machine, kind) == ("Release", "Ended") and "Kept" in carried:
        return STILL_HELD
    if kind == "Ended" or (machine, kind) in [("Query", "Answered"), ("Query", "Failed")]:
        return IDLE
    kept = [word for word in KEPT if word in carried] if machine in ("Acquire", "Clear") else []
    return f"{machine} {kind}({kept[0]})" if kept else f"{machine} {kind}"


def short_reply(reply: str) -> "tuple[str, str]":
    """The call and its reply; all answers of the probe are one, and so are all ages."""
    call, _, answer = reply.partition("(")
    answer = answer[:-1]
    if call not in CALLS:
        return "driver", reply
    if call == "Probe":
        return call, "Failed" if answer == "Failed" else "any"
    if call == "Age":
        return call, answer.partition("(")[0]
    return call, answer


def rows(cells: Iterable[Mapping[str, str]]) -> List[Row]:
    """The rows of the short table, and those of a begin or a death."""
    found: Set[Row] = set()
    for cell in cells:
        machine = cell["machine"]
        if "start" in cell:
            start = short(machine, cell["start"])
            found |= {Row(state, "driver", "begin", start) for state in beginning(cell)}
            continue
        call, reply = short_reply(cell["reply"])
        state, following = short(machine, cell["state"]), short(machine, cell["next"])
        found.add(Row(state, call, reply, following))
    # Any participant with an open file may fork: an idle participant becomes its child.
    found.add(Row(IDLE, "fork", "", CHILD))
    unknown = set(states(found)) - set(KNOWN)
    if unknown:
        raise SystemExit(f"machine.py has no facts for {sorted(unknown)}")
    # Every participant may die at every step.
    crashes = {Row(state, "crash", "", IDLE) for state in states(found)}
    return sorted(found | crashes, key=lambda row: (row.state, row.call, row.reply, row.next))


def beginning(cell: Mapping[str, str]) -> List[str]:
    """The states from which a machine starts: idle, holding, or in a forked child."""
    if cell["machine"] != "Release":
        return [IDLE]
    return [CHILD] if cell["forked"] else [*HELD, STILL_HELD]


def states(table: Iterable[Row]) -> List[str]:
    """Every state of a table."""
    return sorted({state for row in table for state in (row.state, row.next)})


def knowing(fact: str) -> List[str]:
    """The states in which this is known."""
    return [state for state, known in KNOWN.items() if fact in known.split()]
