// Package e2e runs the agent as its users do, as a process, against a real
// Teleport cluster, with the official agent beside it as the reference.
package e2e

import (
	"os"
	"testing"

	"rollcall/e2e/harness"
)

// suite is set by TestMain before any test runs.
var suite *harness.Suite

func TestMain(m *testing.M) {
	if dirs := os.Getenv(readerDirs); dirs != "" {
		os.Exit(readProgram(dirs, os.Stdout))
	}
	os.Exit(harness.Main(m, func(s *harness.Suite) { suite = s }))
}
