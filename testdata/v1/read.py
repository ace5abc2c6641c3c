#!/usr/bin/env python3
"""A second reader, written from docs/format.md and docs/cryptography.md alone: restores the files of the golden store.

Shares no code with Maimo. Run with the Python packages `blake3` and `zstandard`. Follows "Reading a store" step by step; what it reads is
held against the page with `assert`. It checks no signature.
"""

import json
import pathlib
import struct

import zstandard
from blake3 import blake3

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = json.loads((HERE / "golden.json").read_text())["values"]


def file(name):
    return (HERE / name).read_bytes()


# ---- cryptography.md ---------------------------------------------------------------------------------------------------------------


def rounds(state, count):
    def quarter(a, b, c, d):
        for x, y, z, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[x] = (state[x] + state[y]) & 0xFFFFFFFF
            v = state[z] ^ state[x]
            state[z] = ((v << by) | (v >> (32 - by))) & 0xFFFFFFFF

    for _ in range(count // 2):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)


CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")


def xchacha8(key, nonce, data):
    state = [*CONSTANTS, *struct.unpack("<8I", key), *struct.unpack("<4I", nonce[:16])]
    rounds(state, 8)
    subkey = state[:4] + state[12:]
    out = bytearray()
    for i in range(0, len(data), 64):
        start = [*CONSTANTS, *subkey, i // 64, 0, *struct.unpack("<2I", nonce[16:])]
        state = list(start)
        rounds(state, 8)
        stream = struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(state, start)))
        out += bytes(a ^ b for a, b in zip(data[i : i + 64], stream))
    return bytes(out)


def open_seal(key, nonce, ad, sealed):
    ciphertext, tag = sealed[:-32], sealed[-32:]
    plaintext = xchacha8(key, tag[:24], ciphertext)
    assert blake3(nonce + struct.pack("<Q", len(ad)) + ad + plaintext, key=key).digest() == tag, "cannot open"
    return plaintext


def key(purpose, material=b""):
    context = f"maimo v1 {purpose}, epoch 0"
    return blake3(bytes.fromhex(GOLDEN["secret"]) + material, derive_key_context=context).digest()


AUTH = bytes.fromhex(GOLDEN["auth key"])
DOMAIN = bytes(4)


# ---- format.md: Conventions, Plain objects, Object references ----------------------------------------------------------------------


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        assert self.at + count <= len(self.data), "truncated"
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size):
        return int.from_bytes(self.take(size), "little")

    def varint(self, most=2**64 - 1):
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                assert byte != 0 or shift == 7, "not the shortest form"
                assert value <= most, "too large"
                return value

    def sized(self, most):
        return self.take(self.varint(most))

    def many(self, most, read):
        return [read() for _ in range(self.varint(most))]

    def rest(self):
        return self.take(len(self.data) - self.at)

    def end(self):
        assert self.at == len(self.data), "bytes follow"

    def prelude(self, kind):
        assert self.take(12) == b"MAIM" + bytes([kind, 1, 1, 0]) + bytes(4)

    def reference(self):
        return self.take(32), self.varint()

    def fixed_reference(self):
        return self.take(32), self.number(8)

    def extensions(self):
        assert self.varint(16) == 0


def named(reference, data):
    return reference == (blake3(data).digest(), len(data))


# ---- Packs -------------------------------------------------------------------------------------------------------------------------

DICTIONARIES = {}


def decompress(codec, frame, length, dictionary=None):
    if codec == 0:
        return frame
    assert frame[0] == 0 and frame[1] <= 0x68
    data = b"\x28\xb5\x2f\xfd" + frame
    known = zstandard.ZstdCompressionDict(DICTIONARIES[dictionary]) if codec == 2 else None
    plaintext = zstandard.ZstdDecompressor(dict_data=known).decompress(data, max_output_size=length)
    assert len(plaintext) == length
    return plaintext


def table(r):
    number = r.take(16), r.varint()
    dictionaries = r.many(64, lambda: r.take(32))

    def entry():
        chunk_id, kind, codec = r.take(32), r.number(1), r.number(1)
        domain, place, plain, frame = r.varint(), r.varint(len(dictionaries)), r.varint(), r.varint()
        assert (place != 0) == (codec == 2)
        return chunk_id, kind, codec, domain, dictionaries[place - 1] if place else bytes(32), plain, frame

    entries = r.many(65536, entry)
    return number, entries, r.sized(4 * 1024 * 1024)


def plaintext(entry, frame):
    chunk_id, kind, codec, domain, dictionary, length, frame_length = entry
    assert len(frame) == frame_length and domain == 0
    chunk = decompress(codec, frame, length, dictionary)
    purpose = ["content chunk id", "journal chunk id", "dictionary chunk id"][kind]
    assert blake3(chunk, key=key(purpose, DOMAIN)).digest() == chunk_id
    return chunk


def pack(data, kind):
    r = Reader(data)
    r.prelude(kind)
    nonce = r.take(24)
    assert r.take(28) == bytes(28)
    pack_key = key("channel data packs" if kind == 1 else "channel vital packs", AUTH)
    epoch = bytes(4)
    ad = bytes([1, kind, 0, 2]) + epoch + struct.pack("<I", len(data))
    offset, length = struct.unpack("<2I", open_seal(pack_key, nonce, ad, data[-40:]))
    ad = bytes([1, kind, 0, 1]) + epoch + struct.pack("<2I", offset, length)
    r = Reader(open_seal(pack_key, nonce, ad, data[offset : offset + length]))
    codec = r.number(1)
    size = r.varint(8 * 1024 * 1024) if codec else None
    r = Reader(decompress(codec, r.rest(), size))
    number, entries, records = table(r)
    r.end()
    chunks, at = [], 64
    for entry in entries:
        chunk_id, kind_of_chunk, codec, domain, dictionary, plain, frame = entry
        ad = bytes([1, kind_of_chunk, codec, 0]) + epoch + struct.pack("<IQ", domain, plain) + chunk_id + dictionary
        chunks.append(plaintext(entry, open_seal(pack_key, nonce, ad, data[at : at + frame + 32])))
        at += frame + 32
    assert at == offset and len(data) == -(-(at + length + 40) // 4096) * 4096
    padding = data[offset + length : -40]
    assert padding == blake3(nonce, key=key("channel padding", AUTH)).digest(length=len(padding))
    return number, entries, chunks, records


def piece(data):
    r = Reader(data)
    number, entries, records = table(r)
    chunks = [plaintext(entry, r.take(entry[-1])) for entry in entries]
    r.end()
    return number, chunks, records


# ---- Commits and tails -------------------------------------------------------------------------------------------------------------


def commit(data):
    assert len(data) % 512 == 0
    r = Reader(data)
    r.prelude(4)
    nonce = r.take(24)
    r = Reader(open_seal(key("channel commit", AUTH), nonce, data[:12], r.rest()))
    store, sequence = r.take(32), r.varint()
    assert store.hex() == GOLDEN["store id"] and store == key("store id")
    r.many(2, lambda: r.take(32))
    r.take(16)
    if r.number(1):
        r.take(16), r.varint()
    r.varint()
    r.many(32, lambda: (r.take(32), r.varint(), r.take(32)))
    name = blake3(r.data[: r.at], key=key("commit name")).hexdigest()
    assert name == GOLDEN["commit name"]
    segments = r.many(1024, lambda: (r.take(16), r.varint(), r.varint(sequence), r.number(1), r.reference()))
    tail = r.many(8192, lambda: (r.varint(sequence), r.sized(8192)))
    r.extensions()
    rest = r.rest()
    assert len(rest) < 512 and not any(rest)
    return segments, tail


# ---- Journal segments and records --------------------------------------------------------------------------------------------------


def batch(data, listed):
    """Returns the records as (stamp, type, fields), of the types that restoring takes."""
    r = Reader(data)
    tables = [r.many(4096, lambda size=size: r.take(size)) for size in (16, 16, 32)]
    used = [0, 0, 0]
    previous, out, last = None, [], (-1,)

    def index(r, of):
        place = r.varint()
        assert place <= used[of], "not in the order of first use"
        used[of] = max(used[of], place + 1)
        return tables[of][place]

    def ref(r):
        return index(r, 0), r.varint(), r.varint(65535)

    def path(r, previous):
        shared = r.varint(len(previous[1]) if previous else 0)
        if shared:
            prefix, components = previous[0], previous[1][:shared]
        else:
            kind = r.number(1)
            prefix, components = (kind, r.sized(1024) if kind else b""), []
        return prefix, components + r.many(1024, lambda: r.sized(1024))

    def file_time(r):
        zigzag = r.varint()
        return (zigzag >> 1) ^ -(zigzag & 1), r.varint(999_999_999)

    def metadata(r):
        flags = r.number(1)
        out = [r.varint(2**32 - 1) for _ in range(3)] + [file_time(r)]
        out.append(file_time(r) if flags & 1 else None)
        out.append(r.many(256, lambda: (r.sized(255), r.sized(65536))) if flags & 2 else [])
        return out + [bool(flags & 4)]

    def content(r, own):
        kind = r.number(1)
        if kind == 0:
            return kind, r.varint(), r.take(32), r.many(2**20, lambda: (*ref(r), r.varint(65536)))
        if kind == 2:
            return kind, r.sized(32768)
        if kind == 3:
            return kind, path(r, own)
        return (kind, r.varint(), r.varint()) if kind in (5, 6) else (kind,)

    for _ in range(r.varint()):
        sequence, writer, counter = r.varint(), index(r, 0), 0
        assert last < (sequence, writer), "groups out of order"
        last = sequence, writer
        sequence = sequence or listed
        for _ in range(r.varint()):
            counter += r.varint()
            kind, b = r.number(1), Reader(r.sized(4 * 1024 * 1024))
            fields = None
            if kind == 0x80:
                fields = index(b, 1), b.sized(1024)
            elif kind == 0x81:
                fields = index(b, 2), b.take(32), b.sized(1024), b.many(16, lambda: b.sized(1024)), b.number(1)
            elif kind == 0x82:
                fields = b.varint(), b.many(32, lambda: index(b, 2))
            elif kind == 0x83:
                fields = (index(b, 0), b.varint()), index(b, 2), b.reference()
            elif kind == 0x84:
                fields = ref(b), ref(b), b.varint(65536)
            elif kind == 0x85:
                fields = index(b, 1), b.varint()
            elif kind == 0x86:
                fields = index(b, 0), [b.varint() for _ in range(4)]
            elif kind == 0x87:
                source = index(b, 1)
                previous = path(b, previous)
                fields = source, previous, metadata(b), content(b, previous)
            elif kind == 0x88:
                source = index(b, 1)
                previous = path(b, previous)
                fields = source, previous, b.number(1)
            elif kind == 0x89:
                fields = b.many(4096, lambda: (index(b, 0), b.varint()))
            elif kind == 0x8A:
                fields = index(b, 0), b.varint(), b.number(1)
            elif kind == 0x8B:
                fields = b.sized(1024), [b.varint() for _ in range(8)] if b.number(1) else None
            elif kind == 0x8C:
                fields = b.take(32), b.varint(), ref(b), b.number(1)
            else:
                assert kind < 0x80, "needs a newer program"
                b.rest()
            b.end()
            out.append(((sequence, writer, counter), kind, fields))
            counter += 1
    r.end()
    assert used == [len(names) for names in tables], "a name stands unused"
    return out


# ---- Reading a store ---------------------------------------------------------------------------------------------------------------


def main():
    head = file("signed_head.bin")[:-64]
    r = Reader(head)
    r.prelude(5)
    channel = r.take(32)
    assert channel.hex() == GOLDEN["channel"] and r.number(8) == GOLDEN["sequence"]
    r.take(32 + 32)
    for inventory in ("data", "vital"):
        root, length, blocks, charged = *r.fixed_reference(), r.number(8), r.number(8)
        assert named((root, length), file(f"inventory_{inventory}.bin"))
        assert (blocks, charged) == (GOLDEN[f"{inventory} live blocks"], GOLDEN[f"{inventory} charged"])
    commit_reference = r.fixed_reference()
    assert r.number(8) == GOLDEN["time"] and r.number(1) == 1
    client = r.take(32)
    assert client.hex() == GOLDEN["client key"]
    assert channel == blake3(AUTH + client, derive_key_context="maimo v1 channel id").digest()
    r.extensions()
    r.end()
    assert blake3(head).hexdigest() == GOLDEN["root"]

    data = file("commit.bin")
    assert named(commit_reference, data)
    segments, tail = commit(data)
    objects = {(blake3(file(n)).digest(), len(file(n))): file(n) for n in ("data_pack.bin", "dictionary_pack.bin", "journal_pack.bin")}
    records, pieces = [], {}
    for writer, n, sequence, _level, reference in segments:
        number, _, chunks, _ = pack(objects[reference], 2)
        assert number == (writer, n)
        for chunk in chunks:
            records += batch(chunk, sequence)
    for sequence, data in tail:
        number, chunks, own = piece(data)
        pieces[number] = chunks
        records += batch(own, sequence)
    packs = {(f[0], f[1]): f[2] for _, kind, f in sorted(records, key=lambda r: r[0]) if kind == 0x83}
    for _, kind, fields in records:
        if kind == 0x8C:
            chunk_id, _domain, (writer, n, index), _retired = fields
            DICTIONARIES[chunk_id] = pack(objects[packs[(writer, n), channel]], 2)[2][index]

    restored = {}
    for _, kind, fields in sorted(records, key=lambda r: r[0]):
        if kind != 0x87 or fields[3][0] != 0:
            continue
        _, size, digest, extents = fields[3]
        contents = b""
        for writer, n, first, count in extents:
            if (writer, n) not in pieces and ((writer, n), channel) not in packs:
                break  # Moved to a pack that the golden store does not have.
            chunks = pieces.get((writer, n)) or pack(objects[packs[(writer, n), channel]], 1)[2]
            contents += b"".join(chunks[first : first + count])
        else:
            assert len(contents) == size and blake3(contents).digest() == digest
            restored["/" + "/".join(c.decode() for c in fields[1][1])] = len(contents)
    repeated = Reader(pack(file("data_pack.bin"), 1)[3])
    as_of = repeated.varint()
    assert [kind for _, kind, _ in batch(repeated.rest(), as_of)] == [0x87]
    assert set(restored) == {"/home/u/letters", "/home/u/note"}
    for path, size in restored.items():
        print(f"{path}: {size} bytes, as they were stored")


if __name__ == "__main__":
    main()
