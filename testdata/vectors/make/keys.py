#!/usr/bin/env python3
"""Makes keys.json and key_file.json, sharing no code with Maimo.

Run with the Python packages `blake3` and `argon2-cffi`; XChaCha8 is spelled out below.
"""

import hashlib
import json
import pathlib
import struct

from argon2.low_level import ARGON2_VERSION, Type, hash_secret_raw
from blake3 import blake3

OUT = pathlib.Path(__file__).resolve().parent.parent

# A value like no other: a test searches the memory of a process for it.
SECRET = blake3(b"the secret of Maimo's test vectors").digest()
# The public key of RFC 8032's first test, as a provider's auth key.
AUTH = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")


def rounds(state, count):
    def quarter(a, b, c, d):
        for x, y, z, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[x] = (state[x] + state[y]) & 0xFFFFFFFF
            v = state[z] ^ state[x]
            state[z] = ((v << by) | (v >> (32 - by))) & 0xFFFFFFFF

    for _ in range(count // 2):
        for column in range(4):
            quarter(column, 4 + column, 8 + column, 12 + column)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)


CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")


def hchacha(key, nonce, count):
    state = [*CONSTANTS, *struct.unpack("<8I", key), *struct.unpack("<4I", nonce)]
    rounds(state, count)
    return struct.pack("<8I", *state[:4], *state[12:])


def chacha_block(key, counter, nonce, count):
    start = [*CONSTANTS, *struct.unpack("<8I", key), counter, *struct.unpack("<3I", nonce)]
    state = list(start)
    rounds(state, count)
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(state, start)))


def xchacha8(key, nonce, data):
    subkey = hchacha(key, nonce[:16], 8)
    out = bytearray()
    for i in range(0, len(data), 64):
        stream = chacha_block(subkey, i // 64, bytes(4) + nonce[16:], 8)
        out += bytes(a ^ b for a, b in zip(data[i : i + 64], stream))
    return bytes(out)


def check_chacha():
    """RFC 8439 2.3.2 and draft-irtf-cfrg-xchacha-03 2.2.1 (20 rounds), then the construction against its own known answers."""
    key = bytes(range(32))
    block = chacha_block(key, 1, bytes.fromhex("000000090000004a00000000"), 20)
    assert block.hex().startswith("10f1e7e4d13b5915500fdd1fa32071c4")
    sub = hchacha(key, bytes.fromhex("000000090000004a0000000031415927"), 20)
    assert sub.hex().startswith("82413b4227b27bfed30e42508a877d73")
    for case in json.loads((OUT / "xchacha8blake3siv.json").read_text())["cases"]:
        if "plaintext" in case:
            key, nonce, ad, plaintext = (bytes.fromhex(case[k]) for k in ("key", "nonce", "ad", "plaintext"))
            ciphertext, tag = seal(key, nonce, ad, plaintext)
            assert (ciphertext.hex(), tag.hex()) == (case["ciphertext"], case["tag"])


def seal(key, nonce, ad, plaintext):
    tag = blake3(nonce + struct.pack("<Q", len(ad)) + ad + plaintext, key=key).digest()
    return xchacha8(key, tag[:24], plaintext), tag


def derive(context, material):
    return blake3(material, derive_key_context=context).digest()


def expand(seed):
    """What Ed25519 makes of a seed (RFC 8032, 5.1.5): the clamped scalar, the same modulo the group's order, the prefix."""
    digest = bytearray(hashlib.sha512(seed).digest())
    digest[0] &= 248
    digest[31] = digest[31] & 127 | 64
    order = 2**252 + 27742317777372353535851937790883648493
    reduced = int.from_bytes(digest[:32], "little") % order
    return [digest[:32].hex(), reduced.to_bytes(32, "little").hex(), digest[32:].hex()]


def keys():
    plain = b"a plaintext"
    nonce = bytes(range(100, 124))
    no_domain = [("", b"")]
    domains = [(f"domain {d}", struct.pack("<I", d)) for d in (0, 7)]
    channel = [("auth key", AUTH)]
    rows = [
        ("store id", no_domain),
        ("content chunk id", domains),
        ("journal chunk id", domains),
        ("dictionary chunk id", domains),
        ("chunk boundaries", domains),
        ("commit name", no_domain),
        ("channel client", channel),
        ("channel data packs", channel),
        ("channel vital packs", channel),
        ("channel padding", channel),
        ("channel commit", channel),
    ]
    uses = {
        "store id": lambda key: key,
        "content chunk id": lambda key: blake3(plain, key=key).digest(),
        "journal chunk id": lambda key: blake3(plain, key=key).digest(),
        "dictionary chunk id": lambda key: blake3(plain, key=key).digest(),
        "chunk boundaries": lambda key: blake3(b"", key=key).digest(length=100),
        "commit name": lambda key: blake3(plain, key=key).digest(),
        "channel client": lambda key: key,
        "channel data packs": lambda key: b"".join(seal(key, nonce, b"ad", plain)),
        "channel vital packs": lambda key: b"".join(seal(key, nonce, b"ad", plain)),
        "channel padding": lambda key: blake3(nonce, key=key).digest(length=100),
        "channel commit": lambda key: b"".join(seal(key, nonce, b"ad", plain)),
    }
    cases = []
    for epoch in (0, 1):
        for purpose, materials in rows:
            for name, material in materials:
                context = f"maimo v1 {purpose}, epoch {epoch}"
                key = derive(context, SECRET + material)
                cases.append(
                    {
                        "purpose": purpose,
                        "epoch": epoch,
                        "context": context,
                        "material_behind_secret": material.hex(),
                        "derived": key.hex(),
                        "use": uses[purpose](key).hex(),
                    }
                )
    client = next(bytes.fromhex(c["derived"]) for c in cases if c["purpose"] == "channel client")
    data = next(bytes.fromhex(c["derived"]) for c in cases if c["purpose"] == "channel data packs")
    _, tag = seal(data, nonce, b"ad", plain)
    return {
        "made_by": "make/keys.py",
        "client_expanded": expand(client),
        "data_subkey": hchacha(data, tag[:16], 8).hex(),
        "secret": SECRET.hex(),
        "auth": AUTH.hex(),
        "plaintext": plain.hex(),
        "nonce": nonce.hex(),
        "ad": b"ad".hex(),
        "cases": cases,
    }


def key_file():
    assert ARGON2_VERSION == 0x13
    cases = []
    prelude = b"MAIM" + bytes([9, 1, 1, 0]) + struct.pack("<I", 0)

    def add(what, passphrase, body):
        cases.append(
            {
                "what": what,
                "passphrase": passphrase,
                "secret": SECRET.hex(),
                "file": (body + blake3(body).digest()).hex(),
            }
        )

    add("no passphrase", None, prelude + b"\0" + SECRET)
    for passphrase, memory_kib, passes, lanes in (
        ("correct horse battery staple", 19 * 1024, 2, 1),
        ("Zwölf Boxkämpfer 🥊", 20 * 1024 + 7, 3, 2),
    ):
        salt = blake3(b"salt of " + passphrase.encode()).digest()
        nonce = blake3(b"nonce of " + passphrase.encode()).digest()[:24]
        key = hash_secret_raw(passphrase.encode(), salt, passes, memory_kib, lanes, 32, Type.ID)
        header = prelude + b"\1" + struct.pack("<III", memory_kib, passes, lanes) + salt + nonce
        ciphertext, tag = seal(key, nonce, header, SECRET)
        add(f"{memory_kib} KiB, {passes} passes, {lanes} lanes", passphrase, header + ciphertext + tag)
    return {"made_by": "make/keys.py", "cases": cases}


check_chacha()
for name, made in (("keys.json", keys()), ("key_file.json", key_file())):
    (OUT / name).write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
