"""What a manifest, its signature and C2PA credentials add to a picture's encoding, in milliseconds and bytes.

    python benchmarks/provenance.py --rounds 200

One thread; ways alternate in one process, and CPU time is counted, so a busy machine disturbs little. ``png`` is the
picture alone, each other way adds to the one before it, and ``read`` checks what ``C2PA`` wrote. The pictures are
noise, which PNG compresses least.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from eclipse.config.serve import ServeParams
from eclipse.data.images import encode_png
from eclipse.serve.provenance.certificates import self_made_chain
from eclipse.serve.provenance.content_credentials import ContentCredentials, read_credentials
from eclipse.serve.provenance.identity import Identity, Origin, compute, service
from eclipse.serve.provenance.keys import private_pem
from eclipse.serve.provenance.manifest import manifest
from eclipse.serve.provenance.png import png_with_manifest, read_provenanced
from eclipse.serve.provenance.schema import Data, Frozen, Prior, Training
from eclipse.serve.provenance.signing import Signer
from eclipse.serve.types import Drawing, Drawn, PriorName, Prompt, Wanted

HASH = hashlib.sha256(b"").hexdigest()
NAME = PriorName("eclipse-prior-eclipse-mini", "eclipse", HASH)
IDENTITY = Identity(
    Frozen(encoder_hash=HASH, decoder_hash=HASH),
    service(),
    compute(ServeParams()),
    {
        HASH: Origin(
            Prior(hash=HASH, variant="eclipse", role="champion", release="sequence-1", registered=None),
            Training(method="eclipse", point="eclipse-0.2", lam=0.2, seed=0, steps=400),
            Data(dataset_digest=HASH, store_hash=HASH, dvc_lock=HASH, commit=HASH[:40]),
        )
    },
)


def main() -> None:
    """Print a line for each size and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 512])
    args = parser.parse_args()
    torch.set_num_threads(1)
    for size in args.sizes:
        for way, told in measure(size, args.rounds).items():
            print(json.dumps({"size": size, "way": way, **told}))


def measure(size: int, rounds: int) -> dict[str, dict[str, float]]:
    """Median and 90th percentile of each way, and how many bytes it makes."""
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    ways = _ways(image)
    made = {way: make() for way, make in ways.items()}
    spent: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, make in ways.items():
            began = time.process_time()
            make()
            spent[way].append(1000 * (time.process_time() - began))
    return {
        way: {
            "median_ms": round(float(np.median(times)), 3),
            "p90_ms": round(float(np.quantile(times, 0.9)), 3),
            "bytes": len(made[way]),
        }
        for way, times in spent.items()
    }


def _ways(image: NDArray[np.uint8]) -> dict[str, Callable[[], bytes]]:
    size = len(image)
    key = Ed25519PrivateKey.generate()
    credentials = ContentCredentials(self_made_chain(key.public_key()), private_pem(key), "ed25519")
    drawn = Drawn(0, image, torch.zeros(1), NAME)
    wanted, drawing = Wanted(Prompt("a red striped star left of a blue heart"), 7), Drawing(15, "dpm++", 3, size, size)

    def way(signer: Signer | None) -> bytes:
        return png_with_manifest(image, manifest(drawn, wanted, drawing, IDENTITY), signer)

    def read(png: bytes = way(Signer(key, credentials))) -> bytes:
        read_credentials(png)
        return read_provenanced(png, "png").signed

    return {
        "png": lambda: encode_png(image),
        "manifest": lambda: way(None),
        "signature": lambda: way(Signer(key)),
        "C2PA": lambda: way(Signer(key, credentials)),
        "read": read,
    }


if __name__ == "__main__":
    main()
