"""Makes the files that are stored: the same ones from the same seed.

A program of its own, `datasets.py NAME FOLDER SEED SCALE`, so that its memory does not count towards the commands that are measured.
Prints what it made as one JSON object.
"""

import glob
import json
import math
import os
import random
import shutil
import sys

# Raised whenever the same seed would make other files, so that those kept with --data are not taken for these.
VERSION = 1
NAMES = ["source", "tiny", "random"]

SOURCE_BYTES = 256_000_000
SOURCE_FILES = 24_000
SOURCE_FILE_BYTES_MAX = 1 << 20
TINY_FILES = 200_000
TINY_FILES_A_FOLDER = 500
RANDOM_BYTES = 1 << 30
MILLION_FILES = 1_000_000
MILLION_FILES_A_FOLDER = 100


def make(name, folder, seed, scale):
    """Makes a dataset in `folder`, which must not exist, and returns its description."""
    random_source = random.Random(f"{seed} {name}")
    os.mkdir(folder)
    maker = {"source": make_source, "tiny": make_tiny, "random": make_random, "million": make_million}[name]
    origin, files, size = maker(folder, random_source, scale)
    return {"name": name, "version": VERSION, "seed": seed, "scale": scale, "origin": origin, "files": files, "bytes": size}


def settle(path, rng):
    """Gives a file a mode and a modification time with nanoseconds, so that a tool that drops either is found out."""
    os.chmod(path, rng.choices([0o644, 0o600, 0o755], [90, 5, 5])[0])
    modified = 1_600_000_000_000_000_000 + rng.randrange(100_000_000_000_000_000)
    os.utime(path, ns=(modified, modified))


# ---- source: real sources where there are some ---------------------------------------------------------------------------------


def make_source(folder, rng, scale):
    bytes_max, files_max = int(SOURCE_BYTES * scale), int(SOURCE_FILES * scale)
    files, size = copy_sources(folder, rng, bytes_max, files_max)
    if size >= 0.8 * bytes_max or files >= 0.8 * files_max:
        return "real sources of crates, from cargo's registry", files, size
    shutil.rmtree(folder)
    os.mkdir(folder)
    files, size = write_sources(folder, rng, bytes_max, files_max)
    return "made up: this machine has too few real sources in cargo's registry", files, size


def copy_sources(folder, rng, bytes_max, files_max):
    """Copies whole crates in random order until there is enough. Returns (files, bytes)."""
    cargo_home = os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo")
    crates = sorted(glob.glob(os.path.join(glob.escape(cargo_home), "registry", "src", "*", "*")), key=os.path.basename)
    rng.shuffle(crates)
    files = size = 0
    for crate in crates:
        for place, folders, names in os.walk(crate):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(place, name)
                length = os.lstat(path).st_size
                if not is_source(path, length) or size + length > bytes_max or files >= files_max:
                    continue
                target = os.path.join(folder, os.path.basename(crate), os.path.relpath(path, crate))
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copyfile(path, target)
                settle(target, rng)
                files += 1
                size += length
        if files >= files_max or size > bytes_max - 100_000:
            break
    return files, size


def is_source(path, length):
    """Text, and not so long that it must be generated."""
    if not os.path.isfile(path) or os.path.islink(path) or length > SOURCE_FILE_BYTES_MAX:
        return False
    with open(path, "rb") as file:
        return b"\0" not in file.read(4096)


def write_sources(folder, rng, bytes_max, files_max):
    syllables = [a + b for a in "bcdfglmnprstv" for b in ("a", "e", "i", "o", "u", "er", "ock", "ize")]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(5000)]
    frequent = [1 / (rank + 3) for rank in range(len(words))]
    shapes = [
        "    let {0} = self.{1}({2}, &mut {3})?;\n",
        "    if {0}.{1}() != {2} {{\n        return Err({3}::{0});\n    }}\n",
        "/// Returns the {0} of {1}, or the {2} if no {3} is there.\n",
        "pub fn {0}_{1}({2}: &{3}, {0}: usize) -> Result<{1}, Error> {{\n",
        "}}\n\n",
        "use crate::{0}::{{{1}, {2}}};\n",
        "        {0} => {1}::{2}({3}),\n",
        "    assert_eq!({0}.{1}(), b\"{2} {3}\");\n",
    ]
    mean = bytes_max / files_max
    files = size = 0
    while files < files_max and size < bytes_max:
        length = int(min(rng.lognormvariate(math.log(mean) - 0.72, 1.2), SOURCE_FILE_BYTES_MAX))
        text = ["// Made up for a measurement.\n\n"]
        made = 0
        while made < length:
            line = rng.choice(shapes).format(*rng.choices(words, frequent, k=4))
            text.append(line)
            made += len(line)
        place = os.path.join(folder, f"crate-{files // 40:03}", "src")
        os.makedirs(place, exist_ok=True)
        path = os.path.join(place, f"{words[files % len(words)]}_{files}.rs")
        content = "".join(text).encode()
        with open(path, "wb") as file:
            file.write(content)
        settle(path, rng)
        files += 1
        size += len(content)
    return files, size


# ---- tiny: JSON records, keys as in life, values at random -----------------------------------------------------------------------

FIRST = "Ada Alan Anita Barbara Claude Dennis Donald Edsger Frances Grace Hedy John Ken Leslie Margaret Niklaus Radia Shafi".split()
LAST = "Allen Cerf Dijkstra Goldwasser Hamilton Hopper Knuth Lamarr Lamport Liskov Lovelace Perlman Ritchie Shannon Turing Wirth".split()
CITIES = "Aarhus Bergen Bilbao Bologna Brno Cork Gdansk Ghent Graz Leipzig Lyon Malmo Nantes Porto Tampere Tartu Utrecht".split()
STATES = ["active", "pending", "suspended", "closed", "archived"]
WORDS = "account after backup batch buffer cache client commit delay delta disk error event folder index invoice item journal late limit \
node note order packet page payment queue record report result retry route sensor server session shard signal status store stream table \
task ticket token trace update user value vendor window worker zone".split()


def make_tiny(folder, rng, scale):
    files = max(20, int(TINY_FILES * scale))
    size = 0
    for n in range(files):
        # The first of ten folders is a tenth of the files: what memory is measured with a second time.
        place = os.path.join(folder, str(n * 10 // files), f"{n // TINY_FILES_A_FOLDER:04}")
        os.makedirs(place, exist_ok=True)
        content = tiny_record(rng, n)
        path = os.path.join(place, f"record-{n:06}.json")
        with open(path, "wb", buffering=0) as file:
            file.write(content)
        settle(path, rng)
        size += len(content)
    return "made up: JSON records", files, size


def tiny_record(rng, n):
    """Returns a record of about uniform length from 100 to 4000 bytes."""
    length = rng.randint(100, 4000)
    record = {"id": n, "type": "customer", "uuid": f"{rng.getrandbits(128):032x}", "created": time_text(rng)}
    blocks = []
    left = length - 130
    if left > 260:
        record["name"] = f"{rng.choice(FIRST)} {rng.choice(LAST)}"
        record["status"] = rng.choice(STATES)
        record["address"] = {"street": f"{rng.choice(LAST)} street {rng.randint(1, 200)}", "city": rng.choice(CITIES), "zip": f"{rng.randrange(10**5):05}"}
        left -= 190
    while left > 40:
        block = rng.choice([order, event, reading, note])(rng)
        blocks.append(block)
        text = json.dumps(block, indent=2)
        left -= len(text) + 4 * text.count("\n") + 7
    if blocks:
        record["entries"] = blocks
    content = json.dumps(record, indent=2).encode()
    while len(content) > 4000:
        blocks.pop()
        content = json.dumps(record, indent=2).encode()
    return content


def time_text(rng):
    return f"2026-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}.{rng.randrange(1000):03}Z"


def order(rng):
    return {
        "order_id": rng.randrange(10**9),
        "sku": f"{rng.getrandbits(40):010X}",
        "quantity": rng.randint(1, 40),
        "unit_price": round(rng.uniform(1, 500), 2),
        "currency": rng.choice(["EUR", "DKK", "SEK", "CHF"]),
        "ordered_at": time_text(rng),
    }


def event(rng):
    return {
        "event": f"{rng.choice(WORDS)}.{rng.choice(WORDS)}",
        "session": f"{rng.getrandbits(64):016x}",
        "ip": ".".join(str(rng.randrange(256)) for _ in range(4)),
        "duration_ms": rng.randrange(20_000),
        "at": time_text(rng),
    }


def reading(rng):
    return {"sensor": f"s-{rng.randrange(500):03}", "values": [round(rng.gauss(20, 5), 2) for _ in range(rng.randint(4, 12))], "unit": "C"}


def note(rng):
    return {"author": rng.choice(FIRST).lower(), "text": " ".join(rng.choices(WORDS, k=rng.randint(5, 20))), "tags": rng.sample(WORDS, 3)}


# ---- random: a few large files that do not compress ----------------------------------------------------------------------------


def make_random(folder, rng, scale):
    total = int(RANDOM_BYTES * scale)
    lengths = [total // 2, total // 4, total // 8 + total // 16]
    lengths.append(total - sum(lengths))
    for n, length in enumerate(lengths):
        path = os.path.join(folder, f"blob-{n}.bin")
        with open(path, "wb", buffering=0) as file:
            while length > 0:
                file.write(rng.randbytes(min(length, 1 << 20)))
                length -= 1 << 20
        settle(path, rng)
    return "made up: random bytes", len(lengths), total


# ---- million: as many files as a large home has, little in each: what counts is that they are there --------------------------------


def make_million(folder, rng, scale):
    """Ten folders in each, four deep, a hundred files in each of the last. Names as in life, for their lengths."""
    files = max(MILLION_FILES_A_FOLDER, int(MILLION_FILES * scale))
    size = 0
    for first in range(0, files, MILLION_FILES_A_FOLDER):
        digits = f"{first // MILLION_FILES_A_FOLDER:04}"
        place = os.path.join(folder, *(f"{WORDS[int(digit)]}-{digit}" for digit in digits))
        os.makedirs(place)
        for n in range(first, min(first + MILLION_FILES_A_FOLDER, files)):
            content = f"{n} {rng.getrandbits(rng.randint(8, 200)):x}\n".encode()
            file = os.open(os.path.join(place, f"{rng.choice(WORDS)}-{n:07}.txt"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(file, content)
            os.close(file)
            size += len(content)
    return "made up: a line each", files, size


if __name__ == "__main__":
    print(json.dumps(make(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))
