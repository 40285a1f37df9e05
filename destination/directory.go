package destination

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/gravitational/trace"
	"golang.org/x/sys/unix"

	"rollcall/failure"
)

// lockWait is how long a write waits for another process's. A write takes
// milliseconds, so whoever holds the lock longer hangs.
const lockWait = 10 * time.Second

// Directory keeps a set in a directory of the local file system. Its methods
// may be called concurrently; writes wait for one another, also across
// processes.
//
// A stranger who may write in the directory can replace the names in it, and so
// decide what programs read. He can't read the files, lead a write out of the
// directory, or have something of his taken for ours. A directory that others
// can write to is therefore reported, and refused with SymlinksSecure. A group's
// right to write is reported only if there's no ACL, since the group bits of a
// directory with an ACL (which the official agent's `init` makes) are the ACL's
// mask.
type Directory struct {
	opts DirectoryOptions
	log  *slog.Logger
	now  func() time.Time
	hook func(step string) // see Dir
	// resolver is the system's; tests take openat2 away.
	resolver resolver

	mu     sync.Mutex
	warned map[string]bool // guarded by mu: what was logged once already
}

// NewDirectory returns a Directory. It touches no disk.
func NewDirectory(opts DirectoryOptions, log *slog.Logger) (*Directory, error) {
	if err := opts.Validate(); err != nil {
		return nil, failure.Wrap(failure.Configuration, err, "the destination's options make no sense: %v", err)
	}
	opts.Path = filepath.Clean(opts.Path)
	return &Directory{
		opts:     opts,
		log:      log.With("directory", opts.Path),
		now:      time.Now,
		resolver: resolver{openat2: unix.Openat2},
		warned:   make(map[string]bool),
	}, nil
}

// String describes the place.
func (d *Directory) String() string { return "directory " + d.opts.Path }

// Write replaces the set. It runs to its end once it has begun: the context
// bounds only the wait for another process's write. After an error the
// directory holds one whole set or the other (with UpdateSet), and the next
// Write puts everything right.
func (d *Directory) Write(ctx context.Context, set Set) (Result, error) {
	if err := checkSet(set); err != nil {
		return Result{}, trace.Wrap(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, err := d.open(d.resolver.make)
	if err != nil {
		return Result{}, trace.Wrap(err)
	}
	defer dir.Close()
	lock, err := dir.lock(ctx)
	if err != nil {
		return Result{}, explain(err, d.opts.Path)
	}
	defer lock.Close()

	w, err := d.begin(dir, set)
	if err != nil {
		return Result{}, explain(err, d.opts.Path)
	}
	if err := w.refuseForeign(); err != nil {
		return Result{}, explain(err, d.opts.Path)
	}
	if err := w.changeReaders(); err != nil {
		return Result{}, explain(err, d.opts.Path)
	}
	if err := w.secureDirectory(); err != nil {
		return Result{}, explain(err, d.opts.Path)
	}
	if d.opts.Update == UpdateSet {
		err = w.writeSet()
	} else {
		err = w.writeFiles(d.opts.Update == UpdateInPlace)
	}
	if err == nil {
		err = w.forgetReaders()
	}
	if err != nil {
		return Result{}, explain(err, d.opts.Path)
	}
	w.report()
	return Result{Changed: w.changed, Files: w.files, Repaired: w.repaired}, nil
}

// Read returns one file of the current set. While a directory of plain files is
// converted, or the other way round, that is the old set until the new one is
// whole.
func (d *Directory) Read(ctx context.Context, name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, trace.Wrap(err)
	}
	dir, err := d.open(d.resolver.open)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, trace.Wrap(err)
		}
		return nil, explain(err, d.opts.Path)
	}
	defer dir.Close()
	for ctx.Err() == nil {
		version, err := dir.current()
		if err != nil {
			return nil, explain(err, d.opts.Path)
		}
		data, err := dir.readBelow(version, name)
		if err == nil {
			return data, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, explain(err, d.opts.Path)
		}
		// Two swaps during one read remove the version below it.
		if again, _ := dir.current(); again == version {
			return nil, trace.Wrap(err)
		}
	}
	return nil, trace.Wrap(ctx.Err())
}

// readBelow reads a file of a version, or of the directory itself if the version
// is "".
func (d *Dir) readBelow(version, name string) ([]byte, error) {
	at := d
	top, rest := split(name)
	if k, err := d.kind(top); version == "" && err == nil && k == ours {
		return nil, d.fail("read", name, fs.ErrNotExist) // ..data was removed
	}
	steps := []string{version}
	if rest != "" {
		steps = append(steps, top)
		top = rest
	}
	for _, step := range steps {
		if step == "" {
			continue
		}
		sub, err := at.sub(step)
		if err != nil {
			return nil, err
		}
		defer sub.Close() // two at most
		at = sub
	}
	return at.ReadFile(top)
}

// open opens the directory with d's way to treat links.
func (d *Directory) open(how func(string, SymlinkMode) (int, error)) (*Dir, error) {
	dir, err := d.resolver.dir(d.opts.Path, d.opts.Symlinks, how)
	if err != nil {
		return nil, err
	}
	dir.hook = d.hook
	return dir, nil
}

// warn logs a fact that doesn't change by itself once.
func (d *Directory) warn(message string, args ...any) { d.warnOf("", message, args...) }

// warnOf is warn, once for each thing that it's said of.
func (d *Directory) warnOf(what, message string, args ...any) {
	if key := message + what; !d.warned[key] {
		d.warned[key] = true
		d.log.Warn(message, args...)
	}
}
