"""Command ``replay``: make a picture of the service again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eclipse.config.params import Params


def run(
    params: Params, image: Path, *, subject: tuple[str, ...] = (), canny: Path | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Make a PNG of the service again from its manifest, and say whether it is bit-identical.

    The models are those of the manifest's hashes: from the releases, artifacts/ and models/, the prior else from
    MLflow. A manifest holds the hashes of a person's pictures and not the pictures: give them again by ``subject``
    (in any order) and ``canny``. ``out`` gets the new picture as a PNG without a manifest. Where bits differ, what has
    changed since is named: device, processor, threads, libraries, program.
    """
    content = image.read_bytes()
    from eclipse.data.images import encode_png
    from eclipse.files import atomic_file
    from eclipse.serve.provenance.checkout import Checkout
    from eclipse.serve.provenance.png import read_provenanced
    from eclipse.serve.provenance.replay import replay

    picture = read_provenanced(content, str(image))
    found = replay(
        picture.image,
        picture.said,
        Checkout(),
        subjects=[Path(file) for file in subject],
        control=canny,
        memory=params.decoder,
    )
    if out is not None:
        with atomic_file(out) as beside:
            beside.write_bytes(encode_png(found.image))
    print(found.told)
    return {"identical": found.identical, "pixels": found.pixels, "largest": found.largest, "changes": found.changes}
