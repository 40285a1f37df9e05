// Package filelock waits for the lock of an open file (flock) for as long as that's
// worth it. It doesn't know what the lock is for, or what to tell people who have to
// do without it.
package filelock

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/gravitational/trace"
	"golang.org/x/sys/unix"
)

// pause is between two tries: flock waits for ever, or not at all.
const pause = 20 * time.Millisecond

// Wait takes the exclusive lock of a file. It's given back when the file is closed,
// also by the process's end. If somebody else has it for longer than patience,
// the error is unix.EWOULDBLOCK.
func Wait(ctx context.Context, file *os.File, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("flock", err)
		}
		if time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return trace.Wrap(ctx.Err())
		case <-time.After(pause):
		}
	}
}
