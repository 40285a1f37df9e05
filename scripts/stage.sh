#!/usr/bin/env bash
# Run one stage of a longer job and note how long it took.
#
#   scripts/stage.sh begin                     # forget the last job's notes
#   scripts/stage.sh run "unit tests" COMMAND  # run and note
#   scripts/stage.sh summary                   # the notes as a table
#
# The notes stand in .cache/stages, which git ignores.
set -euo pipefail
cd "$(dirname "$0")/.."
notes=.cache/stages

# run runs a command as a stage; its exit code is the command's own.
run() {
	local name=$1 code=0 outcome=ok
	shift
	SECONDS=0
	printf '\n== %s\n' "$name"
	"$@" || code=$?
	[ "$code" -eq 0 ] || outcome="failed (exit code $code)"
	printf '%s\t%s\t%s\n' "$name" "$SECONDS" "$outcome" >>"$notes"
	printf '== %s: %s after %s s\n' "$name" "$outcome" "$SECONDS"
	return "$code"
}

# summary prints the notes.
summary() {
	[ -s "$notes" ] || return 0
	printf '\n%-32s %10s  %s\n' stage seconds outcome
	awk -F '\t' '{ printf "%-32s %10d  %s\n", $1, $2, $3; sum += $2 }
		END { printf "%-32s %10d\n", "all", sum }' "$notes"
}

mkdir -p .cache
case ${1:-} in
begin) : >"$notes" ;;
run)
	shift
	run "$@"
	;;
summary) summary ;;
*)
	echo "usage: $0 begin | run NAME COMMAND [ARGUMENT...] | summary" >&2
	exit 1
	;;
esac
