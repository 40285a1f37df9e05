// Command houserules prints where the tree breaks the rules of the house and
// exits 1 if something must be mended. It's run by `make lint-import`.
package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"

	"rollcall/internal/lint"
)

func main() {
	os.Exit(run(os.DirFS("."), os.Stdout, os.Stderr))
}

// run checks the tree and returns the exit code.
func run(root fs.FS, stdout, stderr io.Writer) int {
	findings, err := lint.Check(root)
	if err != nil {
		fmt.Fprintln(stderr, "houserules:", err)
		return 2
	}
	for _, finding := range findings {
		fmt.Fprintln(stdout, finding)
	}
	broken := len(lint.Errors(findings))
	if broken > 0 {
		fmt.Fprintf(stderr, "houserules: %d to mend; docs/architecture.md has the rules\n", broken)
		return 1
	}
	return 0
}
