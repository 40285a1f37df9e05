#!/usr/bin/env bash
# Build the release binary twice, the second time from a copy of the tree in
# another directory and with an empty build cache, and compare the bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d "${TMPDIR:-/tmp}/rollcall-reproducible.XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

# The copy has no .git, so the values that the Makefile takes from it are
# handed over.
version=$(make -s print-VERSION)
commit=$(make -s print-COMMIT)
date=$(make -s print-COMMIT_DATE)
mkdir "$work/tree"
tar -c --exclude=./.git --exclude=./bin --exclude=./e2e --exclude=./.cache . | tar -x -C "$work/tree"

make -s build
scripts/with-progress.sh "the second build" \
	env GOCACHE="$work/cache" make -s -C "$work/tree" build "VERSION=$version" "COMMIT=$commit" "COMMIT_DATE=$date"

if ! cmp bin/rollcall "$work/tree/bin/rollcall"; then
	echo "two builds of one tree differ" >&2
	exit 1
fi
sha256sum bin/rollcall
echo "two builds of one tree are the same bytes"
