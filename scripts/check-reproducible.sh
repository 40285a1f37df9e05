#!/usr/bin/env bash
# Build the release binary twice from copies of the tree in two directories,
# the second time with an empty build cache, and compare the bytes. Copies, so
# that a file that's saved meanwhile doesn't count as a difference.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d "${TMPDIR:-/tmp}/rollcall-reproducible.XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

# The copies have no .git, so the values that the Makefile takes from it are
# handed over.
values=("VERSION=$(make -s print-VERSION)" "COMMIT=$(make -s print-COMMIT)" "COMMIT_DATE=$(make -s print-COMMIT_DATE)")
one=$work/one
two=$work/another/place/two
mkdir -p "$one" "$two"
tar -c --exclude=./.git --exclude=./bin --exclude=./e2e --exclude=./.cache . | tar -x -C "$one"
cp -R "$one/." "$two"

scripts/with-progress.sh "the first build" make -s -C "$one" build "${values[@]}"
scripts/with-progress.sh "the second build" env GOCACHE="$work/cache" make -s -C "$two" build "${values[@]}"

sha256sum "$one/bin/rollcall" "$two/bin/rollcall" | sed "s|$work/||"
if ! cmp "$one/bin/rollcall" "$two/bin/rollcall"; then
	echo "two builds of one tree differ" >&2
	exit 1
fi
echo "two builds of one tree are the same bytes"
