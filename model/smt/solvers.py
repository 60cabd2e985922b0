"""Runs SMT-LIB scripts in the solvers' own libraries, and reads z3's counterexamples."""

import time
from dataclasses import dataclass
from typing import Callable, Dict, List

from formulas import Formula

QUESTION = "(check-sat)"
# Far longer than any query takes. A solver that gives up says `unknown`, which is a failure.
MILLISECONDS = 60_000


def z3_answers(script: str, models: bool) -> List[str]:
    import z3

    del models
    context = z3.Context()
    text = f"(set-option :timeout {MILLISECONDS})\n{script}"
    return str(z3.Z3_eval_smtlib2_string(context.ref(), text)).split()


def cvc5_answers(script: str, models: bool) -> List[str]:
    import cvc5

    solver = cvc5.Solver(cvc5.TermManager())
    solver.setOption("incremental", "true")
    solver.setOption("tlimit-per", str(MILLISECONDS))
    # Otherwise it never says `sat` for a formula with quantifiers.
    solver.setOption("finite-model-find", "true" if models else "false")
    # Otherwise it splits "a participant in one of these states" by state: a hundred times slower.
    solver.setOption("cond-var-split-quant", "off")
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, script, "script")
    answers: List[str] = []
    while True:
        command = parser.nextCommand()
        if command.isNull():
            return answers
        answers += str(command.invoke(solver, parser.getSymbolManager())).split()


ANSWERS: Dict[str, Callable[[str, bool], List[str]]] = {"z3": z3_answers, "cvc5": cvc5_answers}


@dataclass
class Solver:
    """A solver, with its number of queries and its time."""

    name: str
    asked: int = 0
    # Processor time, because other processes may be active.
    seconds: float = 0.0

    def answers(self, script: str, models: bool = False) -> List[str]:
        """One answer for each query; `models` where `sat` is expected."""
        began = time.process_time()
        said = ANSWERS[self.name](script, models)
        self.seconds += time.process_time() - began
        answers = [word for word in said if word in ("sat", "unsat", "unknown")]
        asked = script.count(QUESTION)
        self.asked += asked
        if len(answers) != asked:
            raise ValueError(f"{self.name} answers {asked} questions with: {' '.join(said)}")
        return answers


def counterexample(script: str, rather: Formula) -> List[str]:
    """A small state in words that satisfies the script, and also `rather` if possible, by z3."""
    import z3

    for text in (f"{script}\n(assert {rather})", script):
        solver = z3.Solver()
        solver.from_string(text)
        if str(solver.check()) == "sat":
            break
    else:
        return ["z3 finds none"]
    model = solver.model()
    universe = {str(sort): list(model.get_universe(sort)) for sort in model.sorts()}
    people, files = universe.get("P", []), universe.get("F", [])
    found = {declared.name(): declared for declared in model.decls()}

    def value(name: str, *places: object) -> str:
        if name not in found:
            return "False"
        term = found[name](*places) if places else found[name]()
        return str(model.eval(term, model_completion=True))

    named = {f"p{number}": person for number, person in enumerate(people)}
    file_named = {f"f{number}": file for number, file in enumerate(files)}
    me, lines = value("me"), []
    for name, person in named.items():
        is_me = " (me)" if str(person) == me else ""
        has = [
            f"{relation} {file_name}"
            for relation in ("open", "lock", "made", "author")
            for file_name, file in file_named.items()
            if value(relation, person, file) == "True"
        ]
        lines.append(f"{name}{is_me} at {value('state', person)}: {', '.join(has) or 'nothing'}")
    path = [name for name, file in file_named.items() if value("path", file) == "True"]
    lines.append(f"the path names {', '.join(path) or 'nothing'}")
    lines.append("kernel locks: " + ("yes" if value("locks") == "True" else "no"))
    return lines
