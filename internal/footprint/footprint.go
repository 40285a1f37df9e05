// Package footprint keeps the process small while it has nothing to do. It
// knows the Go runtime and how Linux maps a program, and nothing of the agent.
package footprint

import (
	"bufio"
	"context"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// gcPercent is how much the heap may grow between two collections, in
	// percent of what is in use. Go's default is 100. The agent allocates
	// little; the collections that are more don't show in its CPU time.
	gcPercent = 50

	// firstRelease is how long after the start the first round of renewals is
	// usually over.
	firstRelease = 10 * time.Second

	// betweenReleases is shorter than most renewal intervals, and long enough
	// to cost nothing.
	betweenReleases = 10 * time.Minute
)

// Tune tells the garbage collector to keep the heap small, unless the user has
// set GOGC. It's for the start of a process.
func Tune(getenv func(string) string) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// Run releases memory soon after the start and then every few minutes, until
// ctx ends.
func Run(ctx context.Context) {
	timer := time.NewTimer(firstRelease)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			Release()
			timer.Reset(betweenReleases)
		}
	}
}

// Release gives back what is free of the heap, and the pages of the program
// file that were needed some time. Two thirds of an idle agent's resident
// memory are such pages: code and tables that only its start has used. The
// kernel reads a page again when it's used again, mostly from its own cache.
//
// It's an attempt: where it can't be done, nothing happens.
func Release() {
	debug.FreeOSMemory()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer f.Close()
	for _, m := range untouched(f, program) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED)
	}
}

// mapping is a range of addresses.
type mapping struct{ start, end uintptr }

// untouched returns the read-only mappings of the program file, as smaps lists
// them, whose pages are all just as in the file: a mapping with pages of its own
// (relocated addresses, a debugger's breakpoints) must keep them.
func untouched(smaps io.Reader, program string) []mapping {
	var found []mapping
	var current *mapping
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 5 && strings.Contains(fields[0], "-"):
			current = header(fields, program)
		case current != nil && len(fields) >= 2 && fields[0] == "Anonymous:":
			if fields[1] == "0" {
				found = append(found, *current)
			}
			current = nil
		}
	}
	return found
}

// header reads a mapping's first line: range, permissions, offset, device,
// inode, path. It returns nil unless that's a read-only mapping of the program.
func header(fields []string, program string) *mapping {
	if len(fields) < 6 || strings.Join(fields[5:], " ") != program || strings.Contains(fields[1], "w") {
		return nil
	}
	low, high, _ := strings.Cut(fields[0], "-")
	start, err := strconv.ParseUint(low, 16, 64)
	if err != nil {
		return nil
	}
	end, err := strconv.ParseUint(high, 16, 64)
	if err != nil || end <= start {
		return nil
	}
	return &mapping{start: uintptr(start), end: uintptr(end)}
}
