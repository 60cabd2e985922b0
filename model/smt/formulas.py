"""Formulas are SMT-LIB text. The solvers read that text, and so does `holds`, which evaluates it in
one small state, so the proved and the compared text are the same.

A state is a set of relations over participants and files:

    (state p)     the state of participant p, one of the states of the machines
    (open p f)    p has file f open
    (lock p f)    p has f open with the kernel lock, which belongs to the open file
    (shares p q)  p and q are different and share an open file: one forked the other
    (made p f)    p's current process created f
    (author p f)  p's current process wrote the record in f
    (record f)    f has a record, by any process
    (path f)      the path names f

and of two facts about the filesystem that never change:

    locks         it has kernel locks
    late          it frees the name of a removed file only when the last handle closes (Windows)
"""

import re
from functools import lru_cache
from itertools import product
from typing import Dict, FrozenSet, Iterable, List, Mapping, Tuple, Union

# The relations, with the variables in which their changes are written.
RELATIONS = {
    "open": ["p", "f"],
    "lock": ["p", "f"],
    "shares": ["p", "q"],
    "made": ["p", "f"],
    "author": ["p", "f"],
    "record": ["f"],
    "path": ["f"],
}
# P for participants, F for files.
SORTS = {"p": "P", "q": "P", "r": "P", "f": "F", "g": "F"}

Formula = str
Tree = Union[str, Tuple["Tree", ...]]
Value = Union[bool, str, int]


def both(formulas: Iterable[Formula]) -> Formula:
    """The conjunction."""
    return "(and true %s)" % " ".join(formulas)


def is_in(states: Iterable[str], participant: str) -> Formula:
    """The participant is in one of these states."""
    return "(or false %s)" % " ".join(
        f"(= (state {participant}) {quoted(state)})" for state in states
    )


def quoted(state: str) -> str:
    """The name of a state as a symbol, because it has blanks and brackets."""
    return f"|{state}|"


def afterwards(formula: Formula, changed: Iterable[str]) -> Formula:
    """The same formula about the next state, in which these relations have changed."""
    names = "|".join(changed)
    return re.sub(rf"\((?P<name>{names})(?= )", r"(\g<name>-after", formula) if names else formula


def places(names: Iterable[str]) -> str:
    """The variables with their sorts, as SMT-LIB binds them."""
    return " ".join(f"({name} {SORTS[name]})" for name in names)


class State:
    """One small state: the participants' states, and the tuples of each relation."""

    def __init__(
        self,
        at: Mapping[int, str],
        relations: Mapping[str, FrozenSet[Tuple[int, ...]]],
        facts: Mapping[str, bool],
    ) -> None:
        self.at = at
        self.relations = relations
        self.facts = facts

    def holds(self, formula: Formula, files: Iterable[int], names: Mapping[str, Value]) -> bool:
        """Whether the formula is true here, with these files in the scenario."""
        universe = {"P": tuple(self.at), "F": tuple(files)}
        return bool(self._value(parsed(formula), universe, dict(names)))

    def _value(
        self, tree: Tree, universe: Mapping[str, Tuple[int, ...]], names: Dict[str, Value]
    ) -> Value:
        if isinstance(tree, str):
            if tree in names:
                return names[tree]
            if tree in self.facts:
                return self.facts[tree]
            if tree in ("true", "false"):
                return tree == "true"
            return tree.strip("|")
        operator = tree[0]
        if operator in ("forall", "exists"):
            bound, body = tree[1], tree[2]
            words = [str(one[0]) for one in bound]
            ranges = [universe[str(one[1])] for one in bound]
            each = (
                self._value(body, universe, {**names, **dict(zip(words, one))})
                for one in product(*ranges)
            )
            return all(each) if operator == "forall" else any(each)
        if operator == "and":
            return all(self._value(part, universe, names) for part in tree[1:])
        if operator == "or":
            return any(self._value(part, universe, names) for part in tree[1:])
        values = [self._value(part, universe, names) for part in tree[1:]]
        if operator == "not":
            return not values[0]
        if operator == "=>":
            return not values[0] or values[1]
        if operator == "=":
            return values[0] == values[1]
        if operator == "state":
            return self.at[int(values[0])]
        return tuple(values) in self.relations[str(operator)]


@lru_cache(maxsize=None)
def parsed(formula: Formula) -> Tree:
    """The formula as nested tuples of words."""
    stack: List[List[Tree]] = [[]]
    for word in re.findall(r"[()]|\|[^|]*\||[^\s()|]+", formula):
        if word == "(":
            stack.append([])
        elif word == ")":
            done = tuple(stack.pop())
            stack[-1].append(done)
        else:
            stack[-1].append(word)
    (tree,) = stack[0]
    return tree
