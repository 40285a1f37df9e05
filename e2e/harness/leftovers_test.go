package harness_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
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
	var temps []string
	for mode, end := range map[string]func(p *harness.Process, cluster int, temp string){
		"fail":      func(*harness.Process, int, string) {},
		"panic":     func(*harness.Process, int, string) {},
		"interrupt": func(p *harness.Process, _ int, _ string) { p.Signal(t, syscall.SIGINT) },
		"kill":      func(p *harness.Process, _ int, _ string) { p.Signal(t, syscall.SIGKILL) },
		"kill with the cluster": func(p *harness.Process, cluster int, _ string) {
			signal(t, syscall.SIGKILL, cluster)
			p.Signal(t, syscall.SIGKILL)
		},
		// As a service manager does. It's also what a cluster saw on a busy machine
		// when its parent died: the signal, and a parent that was still there.
		"terminate all and kill": func(p *harness.Process, cluster int, temp string) {
			signal(t, syscall.SIGTERM, users(t, temp)...)
			harness.Eventually(t, patience, "the cluster's end", func() error { return ended(cluster) })
			p.Signal(t, syscall.SIGKILL)
		},
	} {
		t.Run(mode, func(t *testing.T) {
			temp := suite.Dir(t)
			temps = append(temps, temp)
			p := suite.Start(t, harness.Command{Path: self, Env: []string{
				"HARNESS_VICTIM=" + mode, "TMPDIR=" + temp, "ROLLCALL_E2E_BIN=" + filepath.Dir(suite.Bin.Cluster),
			}})
			p.WaitForLog(t, 2*time.Minute, "started ")
			var cluster, sleeper int
			_, err := fmt.Sscanf(p.Stdout.String(), "started %d %d", &cluster, &sleeper)
			require.NoError(t, err)
			end(p, cluster, temp)
			r := p.Wait(t)
			require.True(t, r.ExitCode != 0 || r.Signal != 0)
			harness.Eventually(t, patience, "the end of what it had started", func() error {
				return errors.Join(ended(cluster), ended(sleeper), empty(temp))
			})
		})
	}
	// Here, because a guardian stays for some seconds: they all do so together.
	harness.Eventually(t, patience, "the end of the guardians", func() error {
		for _, temp := range temps {
			if pids := users(t, temp); len(pids) > 0 {
				return fmt.Errorf("processes %v have %s in their command lines", pids, temp)
			}
		}
		return nil
	})
}

// users returns the processes that have dir in their command line: of those of
// a suite, the guardian and the clusters.
func users(t *testing.T, dir string) (pids []int) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, path := range paths {
		line, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(line), dir+"/") {
			continue // also what has ended in the meantime
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	return pids
}

func signal(t *testing.T, sig syscall.Signal, pids ...int) {
	t.Helper()
	require.NotEmpty(t, pids)
	for _, pid := range pids {
		require.NoError(t, syscall.Kill(pid, sig))
	}
}

// ended returns an error while there is a process.
func ended(pid int) error {
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) && !zombie(pid) {
		return fmt.Errorf("process %d is there (%v)", pid, err)
	}
	return nil
}

// empty returns an error that names what is left in dir.
func empty(dir string) error {
	var left []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if path == dir {
			return err
		}
		if !errors.Is(err, fs.ErrNotExist) { // it's being removed
			left = append(left, strings.TrimPrefix(path, dir+"/"))
		}
		return nil
	})
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	return err
}
