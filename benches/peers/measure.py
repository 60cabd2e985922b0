"""Runs the participants and prints the table. See README.md."""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
TRIALS = int(sys.argv[2]) if len(sys.argv) > 2 else 11
PROCESSES = [2, 8]
HOLDS = [0, 1000]
# Longer than any documented timeout of a contender.
LONGEST_RECOVERY = 30

PYTHON = [sys.executable, str(HERE / "participant.py")]
LIBRARY = [os.environ["PEERS_LIBRARY"]]
NODE = [os.environ["PEERS_NODE"], str(HERE / "participant.js")]
BASH = ["bash", str(HERE / "participant.sh")]

# Name, program, kind, documented treatment of a dead holder.
CONTENDERS = [
    ("portlock `acquire`", LIBRARY, "acquire", "kernel lock"),
    ("portlock `acquire_timeout`", LIBRARY, "acquire_timeout", "kernel lock"),
    ("`portlock run --wait`", BASH, "run", "kernel lock"),
    ("flock(1)", BASH, "flock", "kernel lock"),
    ("filelock `FileLock`", PYTHON, "filelock", "kernel lock, polled every 50 ms"),
    ("filelock `SoftFileLock`", PYTHON, "softfilelock", "pid is probed, every 50 ms"),
    ("portalocker `Lock`", PYTHON, "portalocker", "kernel lock, polled every 250 ms"),
    ("portalocker `PidFileLock`", PYTHON, "pidfilelock", "kernel lock, polled every 250 ms"),
    ("proper-lockfile", NODE, "proper", "not detected: stale after 10 s (`stale`)"),
]


def clock(program):
    return time.time_ns if program is BASH else time.monotonic_ns


def start(program, kind, role, file, hold=0):
    """A participant that is ready, the leader of a new process group."""
    participant = subprocess.Popen(
        [*program, role, kind, file, str(hold)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    said = participant.stdout.readline()
    assert said == "ready\n", f"{kind} printed {said!r} instead of ready"
    return participant


def send(participant, what):
    participant.stdin.write(f"{what}\n")
    participant.stdin.flush()


def contend(program, kind, processes, hold):
    """Hand-overs in microseconds, acquisitions of each process, and holds that overlap."""
    with tempfile.TemporaryDirectory() as directory:
        file = f"{directory}/peer.lock"
        parts = [start(program, kind, "contend", file, hold) for _ in range(processes)]
        end = clock(program)() + int(SECONDS * 1e9)
        for part in parts:
            send(part, end)
        held = []
        for number, part in enumerate(parts):
            said, _ = part.communicate(timeout=60)
            assert part.returncode == 0, f"{kind} ends with {part.returncode}"
            held += [(*map(int, line.split()), number) for line in said.splitlines() if line]
    held.sort()
    pairs = list(zip(held, held[1:]))
    handovers = [b[0] - a[1] for a, b in pairs if a[2] != b[2]]
    counts = [sum(one[2] == number for one in held) for number in range(processes)]
    overlaps = sum(b[0] < a[1] for a, b in pairs)
    return [one / 1e3 for one in handovers], counts, overlaps


def recover(program, kind):
    """Milliseconds from just before the SIGKILL of a holder to the acquire of a waiter."""
    with tempfile.TemporaryDirectory() as directory:
        file = f"{directory}/peer.lock"
        holder = start(program, kind, "hold", file)
        send(holder, 0)
        assert holder.stdout.readline() == "held\n"
        waiter = start(program, kind, "wait", file)
        send(waiter, 0)
        # It waits by then. The random delay meets pollers at any moment of their pause.
        time.sleep(0.1 + 0.25 * (time.monotonic_ns() % 1000) / 1000)
        killed = clock(program)()
        # The group: the command that holds for flock(1) and `portlock run` dies too.
        os.killpg(holder.pid, signal.SIGKILL)
        # Reaped at once, because SoftFileLock takes a zombie for alive.
        holder.communicate()
        try:
            got, _ = waiter.communicate(timeout=LONGEST_RECOVERY)
        except subprocess.TimeoutExpired:
            os.killpg(waiter.pid, signal.SIGKILL)
            waiter.communicate()
            got = ""
    return (int(got) - killed) / 1e6 if got.strip() else None


def milliseconds(micros):
    return f"{micros / 1e3:.2f}" if micros is not None else "none"


def shown_recovery(trials):
    passed = [one for one in trials if one is not None]
    if not passed:
        return f"NOT within {LONGEST_RECOVERY} s"
    missed = len(trials) - len(passed)
    return f"{statistics.median(passed):.2f}" + (f" ({missed} NOT)" if missed else "")


def main():
    columns = [f"{n} processes, held {h / 1000:g} ms" for n in PROCESSES for h in HOLDS]
    print(
        f"Hand-over in ms (median, number a second, Jain's index) in windows of {SECONDS:g} s; "
        f"recovery in ms,\nthe median of {TRIALS} kills. Load average {os.getloadavg()[0]:.1f}.\n"
    )
    print("| contender |", " | ".join(columns), "| recovery | a dead holder |")
    print("| --- |", " | ".join("---" for _ in columns), "| --- | --- |")
    overlapping = []
    for name, program, kind, documented in CONTENDERS:
        if not program[0]:
            print(f"| {name} |", " | ".join("NOT MEASURED" for _ in columns), "| no node | |")
            continue
        cells = []
        for processes in PROCESSES:
            for hold in HOLDS:
                handovers, counts, overlaps = contend(program, kind, processes, hold)
                median = statistics.median(handovers) if handovers else None
                jain = sum(counts) ** 2 / (processes * sum(one * one for one in counts))
                rate = sum(counts) / SECONDS
                cells.append(f"{milliseconds(median)}, {rate:.0f}/s, {jain:.2f}")
                if overlaps:
                    overlapping.append(f"{name}, {processes} processes: {overlaps} times")
        # A recovery that takes seconds is measured once.
        trials = []
        for _ in range(TRIALS):
            trials.append(recover(program, kind))
            if (trials[-1] or LONGEST_RECOVERY * 1e3) > 2000:
                break
        print(f"| {name} |", " | ".join(cells), f"| {shown_recovery(trials)} | {documented} |")
        sys.stdout.flush()
    for line in overlapping:
        print(f"\nTWO HELD AT ONCE: {line}")


main()
