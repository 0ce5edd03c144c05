#!/bin/sh
# Makes the environment of one image from its part of the lock file: install.sh ENVIRONMENT trainer|server|sbom LOCK
# Every file's hash is compared, nothing is resolved. Two packages come without a wheel; setuptools, from the lock as
# well, builds them. With SOURCE_DATE_EPOCH set, pip's bytecode is checked by hash and holds no time.
set -eu
[ "$#" -eq 3 ] || { echo "usage: install.sh ENVIRONMENT trainer|server|sbom LOCK" >&2; exit 2; }
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python3 -m venv "$1"
listed=$(mktemp)
for part in build "$2"; do
    python3 "$here/lock.py" "$part" --lock "$3" >"$listed"
    "$1/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes --no-deps \
        --no-build-isolation --only-binary :all: --no-binary antlr4-python3-runtime,kfp-server-api -r "$listed"
done
rm "$listed"
"$1/bin/python" -m pip check
