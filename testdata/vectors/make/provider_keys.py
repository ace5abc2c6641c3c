#!/usr/bin/env python3
"""Makes provider_keys.json: what a provider's 32 random bytes derive. Shares no code with Maimo.

Run with the Python package `blake3`.
"""

import json
import pathlib

from blake3 import blake3

OUT = pathlib.Path(__file__).resolve().parent.parent

# The words "abandon" 23 times and "art".
SECRET = bytes(32)
CONTEXTS = ["maimo v1 provider auth key", "maimo v1 provider tcp auth key", "maimo v1 provider onion key"]

made = {
    "made_by": "make/provider_keys.py",
    "secret": SECRET.hex(),
    "derived": {context: blake3(SECRET, derive_key_context=context).hexdigest() for context in CONTEXTS},
}
(OUT / "provider_keys.json").write_text(json.dumps(made, indent=1) + "\n")
