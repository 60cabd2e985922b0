"""filelock and portalocker. See README.md for the protocol."""

import sys
import time

import filelock
import portalocker

ROLE, KIND, FILE, HOLD = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]) * 1000
FOREVER = 1e6

LOCKS = {
    "filelock": lambda: filelock.FileLock(FILE),
    "softfilelock": lambda: filelock.SoftFileLock(FILE),
    "portalocker": lambda: portalocker.Lock(FILE, timeout=FOREVER),
    "pidfilelock": lambda: portalocker.PidFileLock(
        FILE, timeout=FOREVER, fail_when_locked=False
    ),
}

now = time.monotonic_ns
lock = LOCKS[KIND]()
print("ready", flush=True)
end = int(sys.stdin.readline())

if ROLE == "contend":
    lines = []
    while now() < end:
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
