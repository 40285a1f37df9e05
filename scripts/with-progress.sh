#!/usr/bin/env bash
# Run a command that takes long, and say every ten seconds that it's alive.
#
#   scripts/with-progress.sh "the test cluster" go build -v -o bin/cluster ./cmd/cluster
#
# The command's output is kept back: its last line stands beside the elapsed
# time (with `go build -v` that is the package being compiled), and all of it
# is printed if the command fails. The exit code is the command's own. Ctrl-C
# and TERM are passed on to the command and all its children.
#
# PROGRESS_EVERY sets the seconds between two lines.
set -euo pipefail

if [ $# -lt 2 ]; then
	echo "usage: $0 LABEL COMMAND [ARGUMENT...]" >&2
	exit 1
fi
label=$1
shift
every=${PROGRESS_EVERY:-10}

log=$(mktemp "${TMPDIR:-/tmp}/rollcall-progress.XXXXXX")
trap 'rm -f "$log"' EXIT

# A process group of its own, so that one signal reaches all of it, also what
# the command started itself.
set -m
"$@" >"$log" 2>&1 </dev/null &
command=$!
set +m

# stop passes a signal on, waits for the command and leaves as the signal asks.
stop() {
	trap - INT TERM
	kill "-$1" -- "-$command" 2>/dev/null || true
	wait "$command" 2>/dev/null || true
	echo "$label: stopped after $SECONDS s" >&2
	exit "$2"
}
trap 'stop INT 130' INT
trap 'stop TERM 143' TERM

echo "$label: started" >&2
next=$every
# Half a second is short enough that a quick command isn't held up.
while kill -0 "$command" 2>/dev/null; do
	sleep 0.5
	if [ "$SECONDS" -ge "$next" ]; then
		echo "$label: $SECONDS s $(tail -n 1 "$log" | cut -c 1-100)" >&2
		next=$((SECONDS + every))
	fi
done

code=0
wait "$command" || code=$?
if [ "$code" -ne 0 ]; then
	cat "$log" >&2
	echo "$label: failed after $SECONDS s (exit code $code)" >&2
	exit "$code"
fi
echo "$label: done in $SECONDS s" >&2
