#!/bin/sh
# Points apt at the archive as it was when the base image was made: Debian's images name that snapshot in a comment above
# the moving address. So the packages below are fixed by the base image, and change when it does.
set -eu
sources=${1:-/etc/apt/sources.list.d/debian.sources}
sed -i -E '/^# https?:\/\/.*\/[0-9]{8}T[0-9]{6}Z\/?$/{N;s/^# ([^\n]*)\n *URIs: .*/URIs: \1\nCheck-Valid-Until: no/}' "$sources"
grep -Eq '^URIs: .*/[0-9]{8}T[0-9]{6}Z/?$' "$sources" || { echo "error: $sources: names no snapshot" >&2; exit 2; }
! grep -E '^URIs: ' "$sources" | grep -Evq '/[0-9]{8}T[0-9]{6}Z/?$' || { echo "error: $sources: a moving address is left" >&2; exit 2; }
