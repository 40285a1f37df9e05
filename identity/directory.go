package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gravitational/trace"
	"golang.org/x/sys/unix"

	"rollcall/failure"
)

// Files of a storage directory.
const (
	fileIdentity = "identity.json"
	// fileNext takes the cluster's reply. It's made, and its space taken,
	// before the cluster is asked, so that between the reply and its being on
	// disk there's one write and nothing that can fail for lack of space.
	fileNext   = "identity.json.next"
	fileIntent = "intent.json"
	// fileLock is the official agent's, too: the two can't run on one
	// directory at a time.
	fileLock = "lock"
)

// reserve is the space that is taken in advance. An identity with two
// generations of authorities of each kind is about 16 KiB.
const reserve = 64 << 10

// Directory is a Store in a directory of its own, mode 0700. It's locked for
// this process until Close.
type Directory struct {
	path string
	root *os.Root
	lock *os.File
	next *os.File // the reserved file between Begin and Save
	log  *slog.Logger
	now  func() time.Time
}

// OpenDirectory makes the directory if it's missing, and locks it. An error of
// kind Configuration says what is wrong with the place; ErrUnusable is in its
// chain, or ErrLocked if another process holds it.
func OpenDirectory(path string, log *slog.Logger) (*Directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, failure.Wrap(failure.Configuration, unusable(err),
			"the storage directory %s can't be made (%s): create it for the user that runs rollcall, or set storage.path", path, cause(err))
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, unusable(err),
			"the storage directory %s can't be opened (%s): check its owner and mode", path, cause(err))
	}
	d := &Directory{path: path, root: root, log: log, now: time.Now}
	if err := d.checkPrivate(); err != nil {
		root.Close()
		return nil, trace.Wrap(err)
	}
	if err := d.takeLock(); err != nil {
		root.Close()
		return nil, trace.Wrap(err)
	}
	return d, nil
}

var (
	// ErrLocked says that another process works on the storage.
	ErrLocked = errors.New("the storage is in use")
	// ErrUnusable says that the storage can't be written, can't be trusted, or
	// holds what can't be read.
	ErrUnusable = errors.New("the storage is unusable")
)

// unusable puts ErrUnusable into err's chain.
func unusable(err error) error { return fmt.Errorf("%w: %w", ErrUnusable, err) }

// Close gives the directory back.
func (d *Directory) Close() error {
	d.dropNext()
	return trace.NewAggregate(d.lock.Close(), d.root.Close())
}

// String describes the store.
func (d *Directory) String() string { return "directory " + d.path }

// checkPrivate takes rights of others away: a directory that others may enter
// gives them nothing to read (files are 0600), but lets them see names.
func (d *Directory) checkPrivate() error {
	info, err := d.root.Stat(".")
	if err != nil {
		return trace.Wrap(err)
	}
	if !info.IsDir() {
		return failure.Wrap(failure.Configuration, ErrUnusable, "the storage path %s isn't a directory", d.path)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return failure.Wrap(failure.Configuration, ErrUnusable,
			"the storage directory %s can be written by others (mode %04o): whoever writes there becomes the bot; chmod 0700 it", d.path, info.Mode().Perm())
	}
	if info.Mode().Perm()&0o055 != 0 {
		d.log.Warn("The storage directory can be listed by others; its files can't be read by them. Consider chmod 0700.", "path", d.path)
	}
	return nil
}

func (d *Directory) takeLock() error {
	lock, err := d.root.OpenFile(fileLock, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return failure.Wrap(failure.Configuration, unusable(err),
			"the storage directory %s isn't writable (%s): check its owner, mode and file system", d.path, cause(err))
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%w: %w", ErrLocked, err)
		}
		return failure.Wrap(failure.Configuration, err,
			"the storage directory %s is in use by another process (rollcall or tbot): stop it, or give each agent a storage of its own", d.path)
	}
	d.lock = lock
	return nil
}

// Load returns the stored identity. A reply that was written, but not yet put
// in place when a run ended, is put in place now.
func (d *Directory) Load() (*Stored, *Intent, error) {
	stored, err := d.read(fileIdentity)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, failure.Wrap(failure.Configuration, unusable(err),
			"the stored identity %s is unusable (%s): restore it, or move it away and give the bot a new token", filepath.Join(d.path, fileIdentity), cause(err))
	}
	stored, err = d.recover(stored)
	if err != nil {
		return nil, nil, trace.Wrap(err)
	}
	intent, err := d.intent()
	if err != nil {
		return nil, nil, trace.Wrap(err)
	}
	if stored == nil {
		return nil, intent, ErrEmpty
	}
	if intent != nil && intent.Generation != stored.Credentials.Generation() {
		// Save put the next generation in place and was stopped before it
		// removed the intent.
		intent = nil
	}
	return stored, intent, nil
}

// recover looks at what a stopped run left in the reserved file.
func (d *Directory) recover(stored *Stored) (*Stored, error) {
	next, err := d.read(fileNext)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return stored, nil
	case err != nil:
		// Space that was reserved and not used, or half a reply: the intent
		// tells the rest.
		return stored, trace.Wrap(d.remove(fileNext))
	case stored != nil && !newer(next, stored):
		return stored, trace.Wrap(d.remove(fileNext))
	}
	if err := d.publish(); err != nil {
		return nil, trace.Wrap(err)
	}
	d.log.Info("Recovered the identity that an interrupted run had received.", "generation", next.Credentials.Generation())
	return next, nil
}

// newer says whether a was issued after b.
func newer(a, b *Stored) bool {
	if ga, gb := a.Credentials.Generation(), b.Credentials.Generation(); ga != gb && a.TokenHash == b.TokenHash {
		return ga > gb
	}
	return a.Credentials.NotAfter().After(b.Credentials.NotAfter())
}

// Begin reserves space for the reply and records the intent.
func (d *Directory) Begin(intent Intent) error {
	if err := d.begin(intent); err != nil {
		d.dropNext()
		return failure.Wrap(failure.Transient, unusable(err),
			"the storage %s can't take a new identity (%s): the cluster isn't asked for one until it can", d.path, cause(err))
	}
	return nil
}

func (d *Directory) begin(intent Intent) error {
	d.dropNext()
	if err := d.remove(fileNext); err != nil {
		return trace.Wrap(err)
	}
	next, err := d.create(fileNext)
	if err != nil {
		return trace.Wrap(err)
	}
	d.next = next
	if _, err := next.Write(make([]byte, reserve)); err != nil {
		return trace.Wrap(err)
	}
	if err := next.Sync(); err != nil {
		return trace.Wrap(err)
	}
	body, err := json.Marshal(intent)
	if err != nil {
		return trace.Wrap(err)
	}
	return trace.Wrap(d.replace(fileIntent, append(body, '\n')))
}

// Save writes the identity into the reserved file and puts it in place. The
// first thing it does is the write: from then on even a kill loses nothing.
func (d *Directory) Save(s Stored) error {
	data, err := encode(s)
	if err != nil {
		return trace.Wrap(err)
	}
	if d.next == nil {
		if err := d.begin(Intent{Generation: s.Credentials.Generation(), Since: d.now()}); err != nil {
			return trace.Wrap(err)
		}
	}
	if _, err := d.next.WriteAt(data, 0); err != nil {
		return trace.Wrap(err)
	}
	if err := d.next.Truncate(int64(len(data))); err != nil {
		return trace.Wrap(err)
	}
	if err := d.next.Sync(); err != nil {
		return trace.Wrap(err)
	}
	d.dropNext()
	if err := d.publish(); err != nil {
		return trace.Wrap(err)
	}
	return trace.Wrap(d.remove(fileIntent))
}

// Abandon removes the intent and the reserved file.
func (d *Directory) Abandon() error {
	d.dropNext()
	return trace.NewAggregate(d.remove(fileIntent), d.remove(fileNext))
}

// publish puts the reserved file in place, durably.
func (d *Directory) publish() error {
	if err := d.root.Rename(fileNext, fileIdentity); err != nil {
		return trace.Wrap(err)
	}
	return trace.Wrap(d.sync())
}

func (d *Directory) dropNext() {
	if d.next != nil {
		_ = d.next.Close() // everything that matters was synced before
		d.next = nil
	}
}

// read decodes a stored identity.
func (d *Directory) read(name string) (*Stored, error) {
	data, err := d.readFile(name)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	stored, err := decode(data)
	return stored, trace.Wrap(err)
}

// intent reads the recorded intent. One that can't be read counts as one of
// an unknown age for the present generation: the careful reading.
func (d *Directory) intent() (*Intent, error) {
	data, err := d.readFile(fileIntent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, trace.Wrap(err)
	}
	var intent Intent
	if err := json.Unmarshal(data, &intent); err != nil {
		return nil, failure.Wrap(failure.Configuration, unusable(err),
			"the file %s is unreadable: remove it if you know that no renewal was cut off", filepath.Join(d.path, fileIntent))
	}
	return &intent, nil
}

// replace writes a small file whole.
func (d *Directory) replace(name string, data []byte) error {
	temp := name + ".tmp"
	if err := d.remove(temp); err != nil {
		return trace.Wrap(err)
	}
	f, err := d.create(temp)
	if err != nil {
		return trace.Wrap(err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := trace.NewAggregate(err, f.Close()); err != nil {
		return trace.Wrap(err)
	}
	if err := d.root.Rename(temp, name); err != nil {
		return trace.Wrap(err)
	}
	return trace.Wrap(d.sync())
}

// create makes a file that wasn't there, readable by nobody else from its first
// moment.
func (d *Directory) create(name string) (*os.File, error) {
	return d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
}

func (d *Directory) readFile(name string) ([]byte, error) {
	info, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, trace.BadParameter("%s isn't a regular file", name)
	}
	return d.root.ReadFile(name)
}

func (d *Directory) remove(name string) error {
	err := d.root.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// sync makes renames in the directory durable.
func (d *Directory) sync() error {
	f, err := d.root.Open(".")
	if err != nil {
		return trace.Wrap(err)
	}
	return trace.NewAggregate(f.Sync(), f.Close())
}

// cause is the short text at the end of an error's chain: "permission denied".
func cause(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return trace.Unwrap(err).Error()
}
