"""Compares `calls.py` with the model's filesystem, step by step.

The model prints every step of some of its scenarios: the state before, the call and its reply, the
state after. The semantics here must allow each, with the same state after (`allowed`). And each
reply that they allow in a state must be one that the model gives, or be in `ANY_TIME` (`surplus`).
The invariant must hold in every state.

The model frees a file that has no name and is not open; here such a file still exists, without
effect. So states are compared only on the files of the model."""

import json
from dataclasses import dataclass
from itertools import product
from typing import Any, Dict, FrozenSet, Iterable, Iterator, List, Mapping, Optional, Set, Tuple

from calls import REPLIES, Effect, Semantics
from formulas import RELATIONS, SORTS, State, Value, both
from invariant import CLAUSES
from machine import CHILD, IDLE, Row, short, short_reply

# Replies that are allowed at any time here, although the model gives them only in some states.
ANY_TIME = {
    "Failed": "any call may fail at any time; in the model the number of failures is bounded",
    "Denied": "a denial may be temporary; in the model the number of denials is bounded",
    "Known": "an age may be anything (P7); in the model every open file has one",
    "any": "the probe may answer anything (P8)",
    "Empty": "the content of a file without a record is not distinguished",
    "Unreadable": "the same",
    "Foreign": "the same",
    "Event": "an event may be spurious; in the model it follows a change of the file",
    "Unknown": "a system may be unable to report whether the lock is held",
}
# And these, where the names of removed files are freed late.
LATE = {
    "Exists": "here any removed open file may keep the name; in the model only the last",
    "Created": "the same: here the name may be free anyway",
    "Absent": "the same",
    "Opened": "the same: here any removed open file may be opened",
}


@dataclass(frozen=True)
class Snapshot:
    """A state of the model in the terms of `formulas.py`; hashable."""

    at: Tuple[str, ...]
    relations: Tuple[Tuple[str, FrozenSet[Tuple[int, ...]]], ...]
    files: FrozenSet[int]

    def state(self, facts: Mapping[str, bool]) -> State:
        return State(dict(enumerate(self.at)), dict(self.relations), facts)

    def opened(self, who: int) -> Optional[int]:
        return next((f for p, f in dict(self.relations)["open"] if p == who), None)


@dataclass(frozen=True)
class Step:
    """A step of the model: `what` is a call, or crash, begin, release, again and the like."""

    before: Snapshot
    call: str
    reply: str
    who: Tuple[int, ...]
    after: Snapshot


@dataclass
class Scenario:
    """The steps of one scenario, without duplicates in short names."""

    name: str
    facts: Mapping[str, bool]
    starts: Set[Snapshot]
    steps: Set[Step]


def read_scenario(lines: Iterable[str]) -> Scenario:
    """What `portlock-model steps` prints."""
    head, *rest = map(json.loads, lines)
    facts = {"locks": head["locks"], "late": head["late"]}
    scenario = Scenario(head["scenario"], facts, set(), set())
    for line in rest:
        if "start" in line:
            scenario.starts.add(snapshot(line["start"]))
            continue
        call, reply = short_reply(line["what"])
        call = reply if reply in ("crash", "fork") else call
        before, after = snapshot(line["before"]), snapshot(line["after"])
        reply = {"release": "begin", "crash": "", "fork": ""}.get(reply, reply)
        scenario.steps.add(Step(before, call, reply, tuple(line["who"]), after))
    return scenario


def snapshot(printed: Mapping[str, Any]) -> Snapshot:
    people, files = printed["participants"], printed["files"]
    handle = {p: person["handle"] for p, person in enumerate(people)}
    of: Dict[str, Set[Tuple[Any, ...]]] = {
        "open": {(p, person["open"]) for p, person in enumerate(people)},
        "lock": {
            (p, file["file"])
            for file in files
            for p in handle
            if handle[p] is not None and handle[p] == file["lock"]
        },
        "shares": {
            (p, q)
            for p in handle
            for q in handle
            if p != q and handle[p] is not None and handle[p] == handle[q]
        },
        "made": {(file["made"], file["file"]) for file in files},
        "author": {(file["author"], file["file"]) for file in files},
        "record": {(file["file"],) for file in files if file["record"]},
        "path": {(printed["path"],)},
    }
    relations = tuple((name, frozenset(t for t in of[name] if None not in t)) for name in RELATIONS)
    at = tuple(state(person["state"]) for person in people)
    return Snapshot(at, relations, frozenset(file["file"] for file in files))


def state(said: str) -> str:
    machine, _, rest = said.partition(" ")
    return said if said in (IDLE, CHILD) else short(machine, rest)


class Comparison:
    """The semantics against the steps of one scenario."""

    def __init__(self, scenario: Scenario, rows: Iterable[Row], semantics: Semantics) -> None:
        self.scenario = scenario
        self.rows = set(rows)
        self.semantics = semantics
        # The rows that some step took, and the number of states.
        self.taken: Set[Row] = set()
        self.states = 0

    def surprises(self, only: Optional[Set[str]] = None) -> Iterator[str]:
        """The differences from the model, only for calls in `only` if it is given."""
        given: Dict[Tuple[Snapshot, int, str], Set[str]] = {}
        for step in sorted(self.scenario.steps, key=repr):
            if only is not None and step.call not in only:
                continue
            if not self.allowed(step):
                yield f"the model makes a step that is not allowed here: {described(step)}"
            if step.call in REPLIES:
                (who,) = step.who
                given.setdefault((step.before, who, step.call), set()).add(step.reply)
        for (before, who, call), replies in given.items():
            for reply in self.surplus(before, who, call, replies):
                yield f"allowed here, but not in the model: {call}({reply}) by {who} in {before}"

    def allowed(self, step: Step) -> bool:
        """Whether the semantics and the table allow this step."""
        now, files = step.before, step.before.files | step.after.files
        for who in step.who:
            if step.call == "crash":
                row = Row(now.at[who], "crash", "", IDLE)
            else:
                row = Row(now.at[who], step.call, step.reply, step.after.at[who])
            if row not in self.rows:
                return False
            self.taken.add(row)
            effect = self.semantics.effect(row.call, row.reply)
            followers = self.followers(now, who, effect, row.next, files)
            # When several threads die together, only the last death leads to the printed state.
            if who != step.who[-1]:
                (now,) = followers
            elif not any(alike(follower, step.after) for follower in followers):
                return False
        return bool(step.who) or step.before == step.after

    def followers(
        self, before: Snapshot, who: int, effect: Effect, at: str, files: Iterable[int]
    ) -> List[Snapshot]:
        """The possible next states, for each choice of a new or found file."""
        known = before.state(self.scenario.facts)
        return [
            changed(known, before, effect, at, files, names)
            for names in self.enabled(before, who, effect, files)
        ]

    def enabled(
        self, before: Snapshot, who: int, effect: Effect, files: Iterable[int]
    ) -> List[Dict[str, Value]]:
        """Each choice of files that satisfies the conditions of the reply."""
        mine = before.opened(who)
        if effect.on_open_file and mine is None:
            return []
        known, said = before.state(self.scenario.facts), both(effect.when)
        names: Dict[str, Value] = {"me": who, "mine": -1 if mine is None else mine}
        people = range(len(before.at)) if "parent" in said else [-1]
        candidates = sorted(files) if "new" in said or "found" in said else [-1]
        each = (
            {**names, "parent": parent, "new": file, "found": file}
            for parent in people
            for file in candidates
        )
        return [names for names in each if known.holds(said, files, names)]

    def surplus(self, before: Snapshot, who: int, call: str, given: Set[str]) -> List[str]:
        """Replies that are allowed here, not given by the model, and not excused."""
        # One more file, for a create.
        files = before.files | {max(before.files, default=0) + 1}
        excused = {**ANY_TIME, **(LATE if self.scenario.facts["late"] else {})}
        return [
            reply
            for reply in REPLIES[call]
            if reply not in given and reply not in excused
            if self.enabled(before, who, self.semantics.effect(call, reply), files)
        ]

    def broken_clauses(self) -> Iterator[str]:
        """Clauses of the invariant that do not hold in a state of the model."""
        states = {step.before for step in self.scenario.steps} | self.scenario.starts
        states |= {step.after for step in self.scenario.steps}
        self.states = len(states)
        for one in states:
            known = one.state(self.scenario.facts)
            for clause, formula in CLAUSES.items():
                if not known.holds(formula, one.files, {}):
                    yield f"{clause}: not in {one}"


def changed(
    known: State,
    before: Snapshot,
    effect: Effect,
    at: str,
    files: Iterable[int],
    names: Mapping[str, Value],
) -> Snapshot:
    """The next state, with every relation changed by the effect."""
    relations = dict(before.relations)
    for relation, formula in effect.then.items():
        ranges = [known.at if SORTS[name] == "P" else files for name in RELATIONS[relation]]
        now = {
            one
            for one in product(*ranges)
            if known.holds(formula, files, {**names, **dict(zip(RELATIONS[relation], one))})
        }
        relations[relation] = frozenset(now)
    places = list(before.at)
    places[int(names["me"])] = at
    return Snapshot(tuple(places), tuple(relations.items()), frozenset(files))


def alike(here: Snapshot, there: Snapshot) -> bool:
    """Whether both states agree on every file that exists there."""
    gone = here.files - there.files
    named = dict(here.relations)
    if any(one[-1] in gone for relation in ("open", "lock", "path") for one in named[relation]):
        return False
    kept = {
        relation: frozenset(
            one for one in tuples if RELATIONS[relation][-1] != "f" or one[-1] not in gone
        )
        for relation, tuples in here.relations
    }
    return here.at == there.at and kept == dict(there.relations)


def described(step: Step) -> str:
    who = " and ".join(map(str, step.who))
    return f"{step.call}({step.reply}) by {who}\n    before {step.before}\n    after  {step.after}"
