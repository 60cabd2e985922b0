"""filelock and portalocker. See README.md for what is said."""

import sys
import time

import filelock
import portalocker

ROLE, KIND, FILE, HOLD = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]) * 1000
FOR_EVER = 1e6

LOCKS = {
    "filelock": lambda: filelock.FileLock(FILE),
    "softfilelock": lambda: filelock.SoftFileLock(FILE),
    "portalocker": lambda: portalocker.Lock(FILE, timeout=FOR_EVER),
    "pidfilelock": lambda: portalocker.PidFileLock(
        FILE, timeout=FOR_EVER, fail_when_locked=False
    ),
}

now = time.monotonic_ns
lock = LOCKS[KIND]()
print("ready", flush=True)
told = int(sys.stdin.readline())

if ROLE == "contend":
    lines = []
    while now() < told:
        lock.acquire()
        got = now()
        until = got + HOLD
        while now() < until:
            pass
        lines.append(f"{got} {now()}")
        lock.release()
    print("\n".join(lines))
else:
    lock.acquire()
    print("held" if ROLE == "hold" else now(), flush=True)
    if ROLE == "hold":
        time.sleep(3600)
    lock.release()
