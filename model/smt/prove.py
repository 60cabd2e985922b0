#!/usr/bin/env python3
"""Proves P1 and P2 for any number of participants and files, by an inductive invariant.

    prove.py [obligations] [invariant] [vacuity] [variants] [steps]      all, if none is named

obligations  Each row of the machines' table, printed by running the shipped code, keeps each clause
             of the invariant (obligations.py, invariant.py). P1 follows from it, and every row that
             removes a file keeps P2. Two solvers must find each `unsat`. Rows outside the promises
             (machine.EXCEPTED: force without kernel locks) must fail.
invariant    Prints the invariant in words: the general clauses, and the facts in each state.
vacuity      The invariant can be satisfied, with a holder and a participant in every state that
             does not exclude one, and every row can be taken under it, so it is not vacuous.
variants     The rows in which a wrong protocol differs from the shipped one fail at exactly the
             obligations that variants.json lists.
steps        The semantics of the calls are defined twice: here (calls.py) and in the model's
             filesystem. Every step of the model is allowed here and leads to the same state, the
             model gives every reply that is allowed here, and each mutation of a list is detected.

`--write FOLDER` writes the scripts, one for each row. Each has the premises first, and then a query
for each clause.

Assumptions: a call is one indivisible step, with the replies and the effects of calls.py.
Participants are alike and finite in number. Each has at most one file open, which it shares only
with its forked children. The age, the probe, failures and crashes are arbitrary at any time. A
suspended participant is one that makes no step; threads that die together are participants that die
one after another.

Not proved: P3 to P6, which are about more than one step or about the content of a record;
participants of another protocol; removals from outside, or by force without kernel locks. The
model's scenarios cover those."""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Set

import obligations
from calls import Semantics, slips
from compare import Comparison, read_scenario
from invariant import in_words
from machine import EXCEPTED, HELD, KNOWN, UNREACHED, Row, rows, states
from solvers import QUESTION, Solver, counterexample

HERE = Path(__file__).resolve().parent
MODEL = "cargo run --quiet --locked --release -p portlock-model --"
EXPECTED = HERE / "variants.json"

# The scenarios whose steps are compared, with budgets that keep them small. Together they have
# every reply of every call.
SCENARIOS = [
    "--scenario base",
    "--scenario threads",
    "--scenario faults --faults 2 --crashes 0",
    "--scenario no-kernel-locks --faults 2 --crashes 0",
    "--scenario delete-pending",
    "--scenario fork --limit 12000",
    "--scenario combined-faults-queries --crashes 0 --faults 0",
    "--scenario listening --faults 1 --crashes 1 --limit 12000",
    "--scenario combined-faults-clears --removals 0 --faults 1 --crashes 0",
]
# Only its participants remove files that they do not have open.
WRONG_SCENARIO = ("no-confirm-before-unlink", "--scenario base")
# Mutated semantics are run over that one and these, which have every call except a query's.
SLIPS_SCENARIOS = [
    "--scenario faults --faults 2 --crashes 0",
    "--scenario fork --limit 12000",
    "--scenario listening --faults 1 --crashes 1 --limit 12000",
]


class Failure(Exception):
    """A proof or a comparison failed."""


class Model:
    """The model's command."""

    def __init__(self, command: str) -> None:
        self.command = shlex.split(command)

    def lines(self, arguments: str) -> List[str]:
        done = subprocess.run(
            [*self.command, *shlex.split(arguments)], stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout.splitlines()

    def rows(self, variant: Optional[str] = None, everything: bool = False) -> List[Row]:
        more = f" --variant {variant}" if variant else ""
        table = rows(json.loads(line) for line in self.lines("table --json" + more))
        return [row for row in table if everything or str(row) not in EXCEPTED]


def main() -> int:
    parts: Dict[str, Callable[["Run"], None]] = {
        "obligations": prove_obligations,
        "invariant": print_invariant,
        "vacuity": prove_vacuity,
        "variants": catch_variants,
        "steps": compare_steps,
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="|".join(parts), help="all, if none is named")
    parser.add_argument("--solver", choices=["z3", "cvc5", "both"], default="both")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write the scripts there")
    parser.add_argument("--model", default=MODEL, help=f"instead of: {MODEL}")
    asked = parser.parse_args()
    unknown = set(asked.parts) - set(parts)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    names = ["z3", "cvc5"] if asked.solver == "both" else [asked.solver]
    try:
        run = Run(Model(asked.model), names, asked.write)
        for part in asked.parts or parts:
            print(f"{part}:")
            parts[part](run)
    except Failure as reason:
        print(f"\nnot proved: {reason}", file=sys.stderr)
        return 1
    return 0


class Run:
    """The state shared by all parts."""

    def __init__(self, model: Model, solvers: Sequence[str], write: Optional[Path]) -> None:
        self.model = model
        self.names = solvers
        self.write = write
        self.table = model.rows()

    def solvers(self) -> List[Solver]:
        return [Solver(name) for name in self.names]


def print_invariant(_: "Run") -> None:
    for line in in_words():
        print(f"  {line}")


def prove_obligations(run: Run) -> None:
    scripts = [obligations.initiation(), obligations.promise()]
    scripts += [obligations.preservation(row, Semantics()) for row in run.table]
    if run.write:
        run.write.mkdir(parents=True, exist_ok=True)
        for number, script in enumerate(scripts):
            (run.write / f"{number:03}.smt2").write_text(script.text() + "\n")
    stale = set(KNOWN) - set(states(run.table))
    if stale:
        raise Failure(f"machine.py has states that no machine has: {sorted(stale)}")
    exceptions = [row for row in run.model.rows(everything=True) if str(row) in EXCEPTED]
    if len(exceptions) != len(EXCEPTED):
        raise Failure(f"machine.py excepts rows that no machine has: not {exceptions}")
    for solver in run.solvers():
        for script in scripts:
            for clause in failures(script, solver):
                raise Failure(explained(script, clause, solver.name))
        print(
            f"  {solver.name}: {solver.asked} obligations of {len(run.table)} rows and "
            f"{len(states(run.table))} states hold, {solver.seconds:.1f} s"
        )
    for row in exceptions:
        broken = failures(obligations.preservation(row, Semantics()), run.solvers()[0])
        if not broken:
            raise Failure(f"{row} is excepted, but keeps the invariant")
        print(f"  except: {row}: not: {', '.join(broken)}: {EXCEPTED[str(row)]}")


def failures(script: obligations.Script, solver: Solver) -> List[str]:
    """The claims that can be false."""
    answers = solver.answers(script.text())
    return [name for (name, _), answer in zip(script.claims, answers) if answer != "unsat"]


def explained(script: obligations.Script, clause: str, solver: str) -> str:
    state = counterexample(script.refutation(clause), obligations.ANOTHER_HOLDS)
    return "\n      ".join([f"{script.title}: not: {clause} ({solver}). Before:", *state])


def prove_vacuity(run: Run) -> None:
    for solver in run.solvers():
        for row in run.table:
            expect(solver, obligations.enabled(row, Semantics()), str(row) not in UNREACHED, row)
        for holder in HELD:
            company = obligations.company(holder)
            for state, possible in company.items():
                script = obligations.coexist(holder, state)
                expect(solver, script, possible, f"{state} with {holder}")
            others = [state for state, possible in company.items() if possible]
            expect(solver, obligations.crowd([holder, *others]), True, f"all with {holder}")
        print(f"  {solver.name}: {solver.asked} queries, {solver.seconds:.1f} s")
    for title, why in UNREACHED.items():
        print(f"  never: {title}: {why}")


def expect(solver: Solver, script: str, possible: bool, what: object) -> None:
    (answer,) = solver.answers(script, models=possible)
    if answer != ("sat" if possible else "unsat"):
        raise Failure(f"{what}: {solver.name} says {answer}, so it can{'not' * possible} be")


def catch_variants(run: Run) -> None:
    expected = json.loads(EXPECTED.read_text())
    known = [json.loads(line) for line in run.model.lines("variants --names")]
    if set(expected) != {variant["variant"] for variant in known}:
        differ = set(expected) ^ {variant["variant"] for variant in known}
        raise Failure(f"variants.json does not list the model's variants: {sorted(differ)}")
    for variant in known:
        name = variant["variant"]
        wanted = expected[name]
        if "no table" in wanted:
            print(f"  {name}: no table: {wanted['no table']}")
            continue
        found = broken(run, name, wanted.get("slip"))
        if found != wanted.get("fails", {}):
            raise Failure(f"{name} fails at {json.dumps(found, indent=2)}")
        if not found:
            print(f"  {name}: all holds: {wanted['holds']}")
        elif variant.get("breaks") not in ("P1", "P2"):
            print(f"  {name}: fails, but keeps P1 and P2: {wanted['although']}")


def broken(run: Run, variant: str, slip: Optional[str]) -> Dict[str, List[str]]:
    """The failed clauses of a wrong protocol, by row. The shipped rows are proved."""
    table = run.model.rows(variant)
    semantics = Semantics(slips()[slip]) if slip else Semantics()
    own = [row for row in table if slip or row not in run.table]
    found: Dict[str, List[str]] = {}
    # One solver is enough, because its counterexamples are readable.
    solver = run.solvers()[0]
    for row in own:
        script = obligations.preservation(row, semantics)
        clauses = failures(script, solver)
        for clause in clauses:
            question = f"{script.refutation(clause)}\n{QUESTION}"
            expect(solver, question, True, f"{script.title}: not: {clause}")
        if clauses:
            found[script.title] = clauses
            print(f"  {variant}: " + explained(script, clauses[0], solver.name))
    return found


def compare_steps(run: Run) -> None:
    taken: Set[Row] = set()
    for scenario in SCENARIOS:
        steps = read_scenario(run.model.lines(f"steps {scenario}"))
        comparison = Comparison(steps, run.table, Semantics())
        for surprise in comparison.surprises():
            raise Failure(surprise)
        for clause in comparison.broken_clauses():
            raise Failure(f"a state of the model breaks the invariant: {clause}")
        taken |= comparison.taken
        print(
            f"  {scenario}: {len(steps.steps)} steps agree, {comparison.states} states keep the invariant"
        )
    print(f"  {len(set(run.table) & taken)} of {len(run.table)} rows are taken")
    taken |= compare_wrong_scenario(run)
    replies = {(row.call, row.reply) for row in run.table}
    missing = replies - {(row.call, row.reply) for row in taken}
    if missing:
        raise Failure(f"no step of these scenarios has {sorted(missing)}")
    print("  every reply of every call is compared")


def compare_wrong_scenario(run: Run) -> Set[Row]:
    """Compares steps that no shipped machine makes, and tests the comparison itself."""
    variant, scenario = WRONG_SCENARIO
    table = run.model.rows(variant)
    wrong = read_scenario(run.model.lines(f"steps {scenario} --variant {variant}"))
    comparison = Comparison(wrong, table, Semantics())
    for surprise in comparison.surprises():
        raise Failure(surprise)
    if not any(comparison.broken_clauses()):
        raise Failure(f"every state of {variant} keeps the invariant: it is not checked")
    print(f"  {variant}: {len(wrong.steps)} steps agree, and a state breaks the invariant")
    compared = [(wrong, table)]
    for arguments in SLIPS_SCENARIOS:
        compared.append((read_scenario(run.model.lines(f"steps {arguments}")), run.table))
    for slip, changed in slips().items():
        calls = {reply.partition("(")[0] for reply in changed}
        runs = (Comparison(steps, rows, Semantics(changed)) for steps, rows in compared)
        if not any(any(one.surprises(calls)) for one in runs):
            raise Failure(f"not detected: {slip}")
    print(f"  {len(slips())} mutations of the semantics, each detected")
    return comparison.taken


if __name__ == "__main__":
    sys.exit(main())
