"""Holds a retrieved tree against the one that was stored: names, kinds, bytes, modes, owners, modification times to the nanosecond.

A program of its own, `compare.py STORED RETRIEVED`, so that its memory does not count towards the commands that are measured. Prints
what differs and exits with 1 if anything does.
"""

import os
import stat
import sys

DIFFERENCES_MAX = 20
BLOCK_BYTES = 4 << 20


class Comparison:
    def __init__(self):
        self.differences = []
        self.files = 0

    def differs(self, path, what):
        self.differences.append(f"{path}: {what}")
        if len(self.differences) >= DIFFERENCES_MAX:
            self.finish()

    def entry(self, stored, retrieved):
        a, b = os.lstat(stored), os.lstat(retrieved)
        if a.st_mode != b.st_mode:
            self.differs(stored, f"mode {stat.filemode(a.st_mode)} came back as {stat.filemode(b.st_mode)}")
        if (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid):
            self.differs(stored, f"owner {a.st_uid}:{a.st_gid} came back as {b.st_uid}:{b.st_gid}")
        if a.st_mtime_ns != b.st_mtime_ns:
            self.differs(stored, f"modified {a.st_mtime_ns} came back as {b.st_mtime_ns}")
        if stat.S_IFMT(a.st_mode) != stat.S_IFMT(b.st_mode):
            return
        if stat.S_ISDIR(a.st_mode):
            self.folder(stored, retrieved)
        elif stat.S_ISLNK(a.st_mode):
            if os.readlink(stored) != os.readlink(retrieved):
                self.differs(stored, "points elsewhere")
        elif stat.S_ISREG(a.st_mode):
            self.files += 1
            if a.st_size != b.st_size:
                self.differs(stored, f"{a.st_size} bytes came back as {b.st_size}")
            elif not same_bytes(stored, retrieved):
                self.differs(stored, "other bytes came back")

    def folder(self, stored, retrieved):
        a, b = set(os.listdir(stored)), set(os.listdir(retrieved))
        for name in sorted(a - b):
            self.differs(os.path.join(stored, name), "did not come back")
        for name in sorted(b - a):
            self.differs(os.path.join(retrieved, name), "was never stored")
        for name in sorted(a & b):
            self.entry(os.path.join(stored, name), os.path.join(retrieved, name))

    def finish(self):
        for difference in self.differences:
            print(difference)
        if not self.differences:
            print(f"{self.files} files are the same")
        sys.exit(1 if self.differences else 0)


def same_bytes(stored, retrieved):
    a, b = os.open(stored, os.O_RDONLY), os.open(retrieved, os.O_RDONLY)
    try:
        while True:
            block = os.read(a, BLOCK_BYTES)
            if block != os.read(b, BLOCK_BYTES):
                return False
            if not block:
                return True
    finally:
        os.close(a)
        os.close(b)


if __name__ == "__main__":
    comparison = Comparison()
    comparison.entry(sys.argv[1], sys.argv[2])
    comparison.finish()
