"""Runs one command and says what it took. Not a judge: what the figures mean is report.py's business.

Also a program of its own, for the limit that no standard tool measures: `measure.py raw-write SOURCE TARGET`.
"""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

TIME_LIMIT_S = 3600


class Failed(Exception):
    """A command failed, or what it brought back is wrong."""


@dataclass
class Usage:
    """What a finished command took: it and the children it waited for."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    stdout: str


def run(argv, env, cwd, log):
    """Runs a command to its end, its output in files named after `log`. Raises Failed unless it exits with 0.

    The peak has a floor: the kernel counts what this process held at the fork (see `floor` in the results). So this process
    stays small, and whatever needs much memory runs in a child.
    """
    with open(f"{log}.out", "wb+") as out, open(f"{log}.err", "wb+") as err:
        start = time.perf_counter()
        child = subprocess.Popen(argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        limit = threading.Timer(TIME_LIMIT_S, child.kill)
        limit.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
            seconds = time.perf_counter() - start
            child.returncode = os.waitstatus_to_exitcode(status)
        finally:
            limit.cancel()
            if child.returncode is None:
                child.kill()
                child.wait()
        out.seek(0)
        stdout = out.read(1 << 20).decode(errors="replace")
        err.seek(0)
        stderr = err.read(1 << 20).decode(errors="replace")
    if child.returncode != 0:
        tail = "\n    ".join((stderr or stdout).strip().splitlines()[-10:])
        raise Failed(f"`{' '.join(argv)}` ended with {child.returncode}:\n    {tail}")
    return Usage(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, stdout)


def stored_bytes(folder):
    """Returns the summed lengths of all files below a folder: apparent sizes, folders themselves not counted."""
    total = 0
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            total += stored_bytes(entry.path)
        else:
            total += entry.stat(follow_symlinks=False).st_size
    return total


def raw_write(source, target):
    """Writes the bytes of all files below `source` into the one file `target`, and one fsync. Returns the seconds of writing
    and syncing alone: reading is not in it."""
    seconds = 0.0
    held, held_bytes = [], 0

    def flush():
        nonlocal seconds, held, held_bytes
        block = b"".join(held)
        held, held_bytes = [], 0
        start = time.perf_counter()
        out.write(block)
        seconds += time.perf_counter() - start

    with open(target, "wb", buffering=0) as out:
        for folder, folders, names in os.walk(source):
            folders.sort()
            for name in sorted(names):
                with open(os.path.join(folder, name), "rb", buffering=0) as file:
                    while block := file.read(16 << 20):
                        held.append(block)
                        held_bytes += len(block)
                        if held_bytes >= 16 << 20:
                            flush()
        flush()
        start = time.perf_counter()
        os.fsync(out.fileno())
        seconds += time.perf_counter() - start
    return seconds


if __name__ == "__main__":
    assert sys.argv[1] == "raw-write"
    print(json.dumps({"seconds": raw_write(sys.argv[2], sys.argv[3])}))
