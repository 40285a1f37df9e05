package harness_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// victim is a test binary's body that starts a cluster and another process,
// says which, and then ends in the named way.
type victim string

// Run does what a testing.M would.
func (v victim) Run() int {
	err := harness.Standalone(context.Background(), "victim", os.Stderr, func(t harness.T) {
		c := suite.Cluster(t)
		sleeper := suite.Start(t, harness.Command{Path: "/bin/sh", Args: []string{"-c", "sleep 100 & wait"}})
		fmt.Printf("started %d %d\n", c.Process().PID, sleeper.PID)
		switch v {
		case "fail":
			t.Fatalf("as told")
		case "panic":
			// Outside of Standalone's recover, as in a goroutine of a test.
			go func() { panic("as told") }()
		}
		<-t.Context().Done()
	})
	if err != nil {
		return 1
	}
	return 0
}

// TestNothingIsLeftBehind ends test binaries in bad ways and looks for what
// they had started, and for their files.
func TestNothingIsLeftBehind(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	for mode, end := range map[string]func(*harness.Process){
		"fail":      func(*harness.Process) {},
		"panic":     func(*harness.Process) {},
		"interrupt": func(p *harness.Process) { p.Signal(t, syscall.SIGINT) },
		"kill":      func(p *harness.Process) { p.Signal(t, syscall.SIGKILL) },
	} {
		t.Run(mode, func(t *testing.T) {
			temp := suite.Dir(t)
			p := suite.Start(t, harness.Command{Path: self, Env: []string{
				"HARNESS_VICTIM=" + mode, "TMPDIR=" + temp, "ROLLCALL_E2E_BIN=" + filepath.Dir(suite.Bin.Cluster),
			}})
			p.WaitForLog(t, 2*time.Minute, "started ")
			var cluster, sleeper int
			_, err := fmt.Sscanf(p.Stdout.String(), "started %d %d", &cluster, &sleeper)
			require.NoError(t, err)
			end(p)
			r := p.Wait(t)
			require.True(t, r.ExitCode != 0 || r.Signal != 0)
			harness.Eventually(t, patience, "the end of what it had started", func() error {
				for _, pid := range []int{cluster, sleeper} {
					if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) && !zombie(pid) {
						return fmt.Errorf("process %d is there", pid)
					}
				}
				return empty(temp)
			})
		})
	}
}

// empty returns an error that names what is left in dir.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if len(left) > 0 {
		return fmt.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	return nil
}
