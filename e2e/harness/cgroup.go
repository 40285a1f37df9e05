package harness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// cgroupPatience is how long a cgroup may take to be empty once its processes
// are dead.
const cgroupPatience = 10 * time.Second

// cgroups makes a cgroup of that name, below this process's own, in each of the
// hierarchies that systemd keeps its units in. Two machines that were started
// from one cgroup would share the cgroups of their units, and take each other's
// processes for their own.
func cgroups(t T, name string) []string {
	t.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatalf("this process's cgroups: %v", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatalf("where cgroups are: %v", err)
	}
	parents := systemdCgroups(string(own), string(mounts))
	if len(parents) == 0 {
		t.Fatalf("a systemd can't be booted here: no cgroup file system is mounted")
	}
	var made []string
	for _, parent := range parents {
		dir := filepath.Join(parent, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatalf("a cgroup for the machine can't be made: %v", err)
		}
		t.Cleanup(func() {
			if err := Poll(context.Background(), cgroupPatience, func() error { return removeCgroup(dir) }); err != nil {
				t.Logf("the machine's cgroup is left behind: %v", err)
			}
		})
		made = append(made, dir)
	}
	return made
}

// systemdCgroups returns the directories of a process's cgroups in cgroup v2 and
// in v1's hierarchy of systemd's, by its /proc/PID/cgroup and mountinfo.
func systemdCgroups(own, mounts string) []string {
	var dirs []string
	for line := range strings.Lines(own) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		kind, option := "cgroup2", ""
		switch parts[1] {
		case "":
		case "name=systemd":
			kind, option = "cgroup", parts[1]
		default:
			continue
		}
		for mount := range strings.Lines(mounts) {
			root, at, ok := cgroupMount(mount, kind, option)
			if !ok {
				continue
			}
			if below, err := filepath.Rel(root, parts[2]); err == nil && filepath.IsLocal(below) {
				dirs = append(dirs, filepath.Join(at, below))
				break
			}
		}
	}
	return dirs
}

// cgroupMount reads a line of mountinfo: which cgroup is mounted where, if it's
// of that kind.
func cgroupMount(line, kind, option string) (root, at string, ok bool) {
	before, after, found := strings.Cut(line, " - ")
	fields, more := strings.Fields(before), strings.Fields(after)
	if !found || len(fields) < 5 || len(more) < 3 || more[0] != kind {
		return "", "", false
	}
	if option != "" && !slices.Contains(strings.Split(more[2], ","), option) {
		return "", "", false
	}
	return fields[3], fields[4], true
}

// removeCgroup removes a cgroup and those below it. Their files go with them.
func removeCgroup(dir string) error {
	var below []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			below = append(below, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, path := range slices.Backward(below) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the cgroup: %w", err)
		}
	}
	return nil
}

// inCgroups is a command line that starts a program in these cgroups.
func inCgroups(dirs []string, program string, args ...string) []string {
	line := []string{"-euc", `while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"`, "sh"}
	return slices.Concat(line, dirs, []string{"--", program}, args)
}
