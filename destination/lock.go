package destination

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"rollcall/failure"
	"rollcall/internal/filelock"
)

// lock takes the directory's lock, which is given back by closing the file, or
// by the process's end.
func (d *Dir) lock(ctx context.Context) (*os.File, error) { return d.lockWith(ctx, unix.O_CREAT) }

// lockExisting is lock, but a directory that nothing was ever written to has none
// (fs.ErrNotExist), and is given none.
func (d *Dir) lockExisting(ctx context.Context) (*os.File, error) { return d.lockWith(ctx, 0) }

func (d *Dir) lockWith(ctx context.Context, flags int) (*os.File, error) {
	f, err := d.open(lockName, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|flags, fileMode)
	if errors.Is(err, unix.ELOOP) {
		return nil, planted(d.join(lockName), "is a symbolic link")
	}
	if err != nil {
		return nil, err
	}
	if err := filelock.Wait(ctx, f, lockWait); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, failure.Wrap(failure.Transient, err,
				"another process has been writing to %s for %v: stop it, or give each agent a directory of its own", d.path, lockWait)
		}
		return nil, err
	}
	return f, nil
}
