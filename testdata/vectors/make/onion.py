#!/usr/bin/env python3
"""Makes onion.json: onion services' keys and addresses as a real `tor` makes them, offline (DisableNetwork 1).

The first keys are tor's own; it keeps no seeds. The last are expanded here from a seed and given to tor, which must take them.
"""

import hashlib
import json
import pathlib
import subprocess
import tempfile
import time

OUT = pathlib.Path(__file__).resolve().parent.parent
OWN = 3
SEEDS = [bytes([1]) * 32, bytes(range(32))]


def expand(seed):
    """RFC 8032, 5.1.5, steps 1 and 2."""
    expanded = bytearray(hashlib.sha512(seed).digest())
    expanded[0] &= 248
    expanded[31] = expanded[31] & 127 | 64
    return bytes(expanded)



with tempfile.TemporaryDirectory() as temp:
    temp = pathlib.Path(temp)
    services = [temp / f"service{i}" for i in range(OWN + len(SEEDS))]
    for service, seed in zip(services[OWN:], SEEDS):
        service.mkdir(mode=0o700)
        (service / "hs_ed25519_secret_key").write_bytes(b"== ed25519v1-secret: type0 ==\0\0\0" + expand(seed))
    lines = [f"DataDirectory {temp}/data", "DisableNetwork 1", "SocksPort 0", f"Log notice file {temp}/log"]
    for service in services:
        lines += [f"HiddenServiceDir {service}", "HiddenServicePort 1 127.0.0.1:1"]
    (temp / "torrc").write_text("\n".join(lines) + "\n")
    version = subprocess.run(["tor", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    tor = subprocess.Popen(["tor", "-f", temp / "torrc"], stdout=subprocess.DEVNULL)
    try:
        for _ in range(300):
            if all((service / "hostname").exists() for service in services):
                break
            time.sleep(0.1)
        cases = []
        for service, seed in zip(services, [None] * OWN + SEEDS):
            # Each file begins with 32 bytes that name its type.
            cases.append(
                {
                    "seed": seed and seed.hex(),
                    "public": (service / "hs_ed25519_public_key").read_bytes()[32:].hex(),
                    "expanded_secret": (service / "hs_ed25519_secret_key").read_bytes()[32:].hex(),
                    "hostname": (service / "hostname").read_text().strip(),
                }
            )
    finally:
        tor.terminate()
        tor.wait()

made = {"made_by": "make/onion.py", "tor": version, "cases": cases}
(OUT / "onion.json").write_text(json.dumps(made, indent=1) + "\n")
