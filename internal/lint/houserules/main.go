// Command houserules prints where the code breaks the rules of the house or,
// with the argument "documents", where the documents do, and exits 1 if
// something must be mended. It's run by `make lint-import` and `make
// docs-check`.
package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"rollcall/internal/lint"
)

func main() {
	os.Exit(run(os.DirFS("."), os.Args[1:], os.Stdout, os.Stderr))
}

// run checks the tree and returns the exit code.
func run(root fs.FS, args []string, stdout, stderr io.Writer) int {
	check := lint.Check
	switch {
	case slices.Equal(args, []string{"documents"}):
		check = lint.CheckDocuments
	case len(args) > 0:
		fmt.Fprintln(stderr, "usage: houserules [documents]")
		return 2
	}
	findings, err := check(root)
	if err != nil {
		fmt.Fprintln(stderr, "houserules:", err)
		return 2
	}
	for _, finding := range findings {
		fmt.Fprintln(stdout, finding)
	}
	broken := len(lint.Errors(findings))
	if broken > 0 {
		fmt.Fprintf(stderr, "houserules: %d to mend (the rules of the code: docs/architecture.md)\n", broken)
		return 1
	}
	return 0
}
