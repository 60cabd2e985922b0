"""The semantics of the calls: for each reply of each call, its condition and its changes.

This is a second description of the filesystem, next to the model's `scenario/view.rs`; `compare.py`
compares the two. It is weaker on purpose: the age and the probe may answer anything at any time
(P7, P8), and every call may fail at any time.

In the formulas `me` is the participant that calls, `mine` its open file, `new` the file that a
create makes, `found` the file that an open opens, and `parent` the participant that forks `me`. A
new file is one that no participant has open and that the path does not name. It may be a removed
file, because inode numbers are reused."""

from dataclasses import dataclass, field
from typing import Callable, Dict, List, Mapping

from formulas import Formula


@dataclass(frozen=True)
class Effect:
    """One reply of a call."""

    # The conditions of the reply.
    when: List[Formula] = field(default_factory=list)
    # The changes: for each relation, the p and f for which it holds afterwards.
    then: Mapping[str, Formula] = field(default_factory=dict)
    # The caller has a file open, which is `mine`.
    on_open_file: bool = False


# A reused file has none of its earlier relations.
NOT_NEW = "(not (= f new))"
NO_NAME = "(forall ((f F)) (not (path f)))"
SOME_NAME = "(exists ((f F)) (path f))"
# On some systems a removed file keeps its name while a participant has it open.
LATE_NAME = "(and late (exists ((q P) (g F)) (and (open q g) (not (path g)))))"
ME_MINE = "(and (= p me) (= f mine))"
FREE_FOR_ME = "(forall ((q P)) (=> (lock q mine) (or (= q me) (shares q me))))"
# The participants that share this open file.
MY_HANDLE = "(and (= f mine) (or (= p me) (shares p me)))"


def create(reply: str) -> Effect:
    if reply == "Created":
        return Effect(
            when=[NO_NAME, "(not (path new))", "(forall ((q P)) (not (open q new)))"],
            then={
                "path": "(= f new)",
                "open": "(or (open p f) (and (= p me) (= f new)))",
                "made": f"(or (and (made p f) {NOT_NEW}) (and (= p me) (= f new)))",
                "author": f"(and (author p f) {NOT_NEW})",
                "record": f"(and (record f) {NOT_NEW})",
            },
        )
    return {
        "Exists": Effect(when=[f"(or {SOME_NAME} {LATE_NAME})"]),
        # A denial may be temporary, and occur at any time, even at a free path.
        "Denied": Effect(),
        "Failed": Effect(),
    }[reply]


def open_(reply: str) -> Effect:
    if reply == "Opened":
        # Some systems still open a file whose name is being deleted.
        removed = "(and late (not (path found)) (exists ((q P)) (open q found)))"
        return Effect(
            when=[f"(or (path found) {removed})"],
            then={"open": "(or (open p f) (and (= p me) (= f found)))"},
        )
    return {
        "Absent": Effect(when=[NO_NAME]),
        # A denial may be temporary, and occur at any time, even at a free path.
        "Denied": Effect(),
        "Failed": Effect(),
    }[reply]


def age(reply: str) -> Effect:
    return {"Known": Effect(on_open_file=True), "Failed": Effect(on_open_file=True)}[reply]


def lock(reply: str) -> Effect:
    return {
        "Ours": Effect(
            when=["locks", FREE_FOR_ME],
            then={"lock": f"(or (lock p f) {MY_HANDLE})"},
            on_open_file=True,
        ),
        "Busy": Effect(when=["locks", f"(not {FREE_FOR_ME})"], on_open_file=True),
        "Unsupported": Effect(when=["(not locks)"], on_open_file=True),
        "Failed": Effect(on_open_file=True),
    }[reply]


def arm(_: str) -> Effect:
    return Effect(on_open_file=True)


def listen(_: str) -> Effect:
    """An event may be spurious, and the timeout may expire at any time."""
    return Effect(on_open_file=True)


def write(reply: str) -> Effect:
    record = {
        "Done": {
            "record": "(or (record f) (= f mine))",
            "author": f"(or (and (author p f) (not (= f mine))) {ME_MINE})",
        },
        # It leaves the file empty, or with a part of a record, which is no record.
        "Failed": EMPTIED,
    }[reply]
    return Effect(then=record, on_open_file=True)


EMPTIED = {
    "record": "(and (record f) (not (= f mine)))",
    "author": "(and (author p f) (not (= f mine)))",
}


def read(reply: str) -> Effect:
    return {
        "Record": Effect(when=["(record mine)"], on_open_file=True),
        # The content without a record makes no difference here.
        "Empty": Effect(when=["(not (record mine))"], on_open_file=True),
        "Unreadable": Effect(when=["(not (record mine))"], on_open_file=True),
        "Foreign": Effect(when=["(not (record mine))"], on_open_file=True),
        "Failed": Effect(on_open_file=True),
    }[reply]


def probe(reply: str) -> Effect:
    return {"any": Effect(), "Failed": Effect()}[reply]


def confirm(reply: str) -> Effect:
    return {
        "Same": Effect(when=["(path mine)"], on_open_file=True),
        "Changed": Effect(when=["(not (path mine))"], on_open_file=True),
        "Failed": Effect(on_open_file=True),
    }[reply]


def unlink(reply: str) -> Effect:
    # By name: the file at the path is removed, even if the caller has none open.
    return {
        "Unlinked": Effect(when=[SOME_NAME], then={"path": "false"}),
        "Absent": Effect(when=[NO_NAME]),
        "Failed": Effect(),
    }[reply]


def void(reply: str) -> Effect:
    return {
        "Done": Effect(then=EMPTIED, on_open_file=True),
        "Failed": Effect(on_open_file=True),
    }[reply]


def watch(reply: str) -> Effect:
    held = "(exists ((q P)) (lock q mine))"
    return {
        "Held": Effect(when=[held], on_open_file=True),
        "Free": Effect(when=[f"(not {held})"], on_open_file=True),
        "Unknown": Effect(on_open_file=True),
    }[reply]


# The last close of an open file frees its kernel lock.
LEFT = {
    "open": "(and (open p f) (not (= p me)))",
    "lock": "(and (lock p f) (not (= p me)))",
    "shares": "(and (shares p q) (not (= p me)) (not (= q me)))",
}


def close(_: str) -> Effect:
    # It unlocks before it closes, even if others share the open file.
    return Effect(then={**LEFT, "lock": f"(and (lock p f) (not {MY_HANDLE}))"}, on_open_file=True)


def leave(_: str) -> Effect:
    return Effect(then=LEFT, on_open_file=True)


def fork(_: str) -> Effect:
    """`me` is forked, with the open file of `parent`."""
    siblings = "(or (= {0} parent) (shares {0} parent))"
    return Effect(
        when=["(open parent found)", "(not (= parent me))"],
        then={
            "open": "(or (open p f) (and (= p me) (= f found)))",
            "lock": "(or (lock p f) (and (= p me) (= f found) (lock parent found)))",
            "shares": "(or (shares p q) (and (= p me) %s) (and (= q me) %s))"
            % (siblings.format("q"), siblings.format("p")),
        },
    )


def crash(_: str) -> Effect:
    """The process of `me` dies between any two calls."""
    return Effect(
        then={
            **LEFT,
            # Its records and files are a dead process's.
            "author": "(and (author p f) (not (= p me)))",
            "made": "(and (made p f) (not (= p me)))",
        }
    )


def nothing(_: str) -> Effect:
    """The driver answers, or a machine begins, without a call."""
    return Effect()


CALLS: Dict[str, Callable[[str], Effect]] = {
    "Create": create,
    "Open": open_,
    "Age": age,
    "Lock": lock,
    "Arm": arm,
    "Listen": listen,
    "Write": write,
    "Read": read,
    "Probe": probe,
    "Confirm": confirm,
    "Unlink": unlink,
    "Void": void,
    "Watch": watch,
    "Close": close,
    "Leave": leave,
    "crash": crash,
    "fork": fork,
    "driver": nothing,
}
# Every reply of each call, as `machine.py` shortens them.
REPLIES = {
    "Create": ["Created", "Exists", "Denied", "Failed"],
    "Open": ["Opened", "Absent", "Denied", "Failed"],
    "Age": ["Known", "Failed"],
    "Lock": ["Ours", "Busy", "Unsupported", "Failed"],
    "Arm": [""],
    "Listen": ["Event", "Over", "Failed"],
    "Write": ["Done", "Failed"],
    "Read": ["Record", "Empty", "Unreadable", "Foreign", "Failed"],
    "Probe": ["any", "Failed"],
    "Confirm": ["Same", "Changed", "Failed"],
    "Unlink": ["Unlinked", "Absent", "Failed"],
    "Void": ["Done", "Failed"],
    "Watch": ["Held", "Free", "Unknown"],
    "Close": [""],
    "Leave": [""],
}


@dataclass(frozen=True)
class Semantics:
    """The calls, or the calls with one mutation."""

    slips: Mapping[str, Effect] = field(default_factory=dict)

    def effect(self, call: str, reply: str) -> Effect:
        key = f"{call}({reply})"
        return self.slips[key] if key in self.slips else CALLS[call](reply)


def slips() -> Dict[str, Dict[str, Effect]]:
    """Wrong semantics, each of which the comparison with the model must detect."""
    free = Effect(when=["locks"], then=lock("Ours").then, on_open_file=True)
    created = create("Created")
    keeps_lock = {key: value for key, value in crash("").then.items() if key != "lock"}
    stays_author = {key: value for key, value in crash("").then.items() if key != "author"}
    return {
        "confirm compares the open file with itself": {
            "Confirm(Same)": Effect(on_open_file=True),
            "Confirm(Changed)": Effect(when=["false"], on_open_file=True),
        },
        "the kernel lock does not exclude": {"Lock(Ours)": free},
        "the kernel lock is never granted": {
            "Lock(Ours)": Effect(when=["false"], on_open_file=True)
        },
        "a lock that was tried is not taken": {
            "Lock(Ours)": Effect(when=["locks", FREE_FOR_ME], on_open_file=True)
        },
        "unlink removes no file": {"Unlink(Unlinked)": Effect(when=[SOME_NAME])},
        "unlink removes only the caller's open file": {
            "Unlink(Unlinked)": Effect(
                when=["(exists ((f F)) (and (path f) (open me f)))"], then={"path": "false"}
            )
        },
        "unlink closes the file": {
            "Unlink(Unlinked)": Effect(when=[SOME_NAME], then={"path": "false", **LEFT})
        },
        "a crash leaves the kernel lock": {"crash()": Effect(then=keeps_lock)},
        "a crash leaves a live record": {"crash()": Effect(then=stays_author)},
        "close keeps the kernel lock": {
            "Close()": Effect(
                then={key: value for key, value in LEFT.items() if key != "lock"}, on_open_file=True
            )
        },
        "close leaves the kernel lock to a child": {"Close()": leave("")},
        "leave drops a parent's kernel lock": {"Leave()": close("")},
        "a child gets a handle of its own": {
            "fork()": Effect(
                when=fork("").when,
                then={key: value for key, value in fork("").then.items() if key != "shares"},
            )
        },
        "create is not exclusive": {
            "Create(Created)": Effect(when=created.when[1:], then=created.then)
        },
        "a created file has a record": {
            "Create(Created)": Effect(
                when=created.when, then={**created.then, "record": "(or (record f) (= f new))"}
            )
        },
        "a created file is not open": {
            "Create(Created)": Effect(
                when=created.when, then={**created.then, "open": "(open p f)"}
            )
        },
        "open takes any file": {"Open(Opened)": Effect(then=open_("Opened").then)},
        "write leaves the file empty": {"Write(Done)": Effect(then=EMPTIED, on_open_file=True)},
        "void leaves the record": {"Void(Done)": Effect(on_open_file=True)},
        "read sees a record in an empty file": {"Read(Record)": Effect(on_open_file=True)},
    }
