#!/usr/bin/env bash
# Fail if gofmt would change a file; say which and how to mend it.
set -euo pipefail
cd "$(dirname "$0")/.."
# Hidden directories hold no source of ours, and maybe what only root can read.
unformatted=$(find . -name '.?*' -prune -o -name '*.go' -print0 | xargs -0 gofmt -l)
if [ -n "$unformatted" ]; then
	echo "not formatted (make fmt mends it):" >&2
	echo "$unformatted" >&2
	exit 1
fi
