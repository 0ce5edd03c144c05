# pull.sh REPOSITORY FOLDER: a checkout of the default branch in FOLDER, kept between runs; one run at a time.
set -euo pipefail
exec 9> "$2.lock"
flock 9
if [ ! -d "$2/.git" ]; then
  git clone --quiet -- "$1" "$2.part"
  mv "$2.part" "$2"
fi
git -C "$2" remote set-url origin "$1"
git -C "$2" fetch --quiet --prune origin
git -C "$2" remote set-head origin --auto > /dev/null
git -C "$2" checkout --quiet --detach origin/HEAD
