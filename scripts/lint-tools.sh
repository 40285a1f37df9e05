#!/usr/bin/env bash
# Run the linters that don't come with Go, where they're installed.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v golangci-lint >/dev/null; then
	golangci-lint run ./...
else
	echo "golangci-lint isn't installed: .golangci.yml wasn't applied (the import rule was, by make lint-import)"
fi

if ! command -v govulncheck >/dev/null; then
	echo "govulncheck isn't installed: known vulnerabilities weren't looked for"
	exit 0
fi
code=0
govulncheck ./... || code=$?
case $code in
0) ;;
3) exit 3 ;; # vulnerabilities that the code reaches
*) echo "govulncheck couldn't be run (exit code $code; it needs vuln.go.dev): known vulnerabilities weren't looked for" ;;
esac
