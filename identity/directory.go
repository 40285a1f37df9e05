package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/gravitational/trace"
	"golang.org/x/sys/unix"

	"rollcall/destination"
	"rollcall/failure"
	"rollcall/internal/filelock"
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

// reserved is the space that is taken in advance, in bytes. An identity with two
// generations of authorities of each kind is about 16 KiB.
const reserved = 64 << 10

// tempSuffix marks a small file that isn't in place yet.
const tempSuffix = ".tmp"

// Directory is a Store in a directory of its own, mode 0700. It's locked for
// this process until Close.
type Directory struct {
	path string
	root *os.Root
	lock *os.File
	next *os.File // the reserved file between Begin and Save
	log  *slog.Logger
	now  func() time.Time
	// hostID is held while the host's id is read or made.
	hostID sync.Mutex
	// hook is called before every step that changes the disk; tests stop there.
	hook func(step string)
}

// OpenDirectory makes the directory if it's missing, and locks it. Links on the
// way to it are treated as in a destination with the same symlink mode. An
// error of kind Configuration says what is wrong with the place; ErrUnusable is
// in its chain, or ErrLocked if another process holds it.
func OpenDirectory(path string, links destination.SymlinkMode, log *slog.Logger) (*Directory, error) {
	root, err := openRoot(path, links)
	if err != nil {
		return nil, trace.Wrap(err)
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

// openRoot opens the directory that the checked way leads to: opening it by
// name once more could end elsewhere, if somebody put a link in between.
func openRoot(path string, links destination.SymlinkMode) (*os.Root, error) {
	checked, err := destination.MakeDir(path, links)
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, unusable(err),
			"the bot's storage can't be opened: %s", err)
	}
	defer checked.Close()
	want, err := checked.Stat()
	if err != nil {
		return nil, trace.Wrap(err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, unusable(err),
			"the storage directory %s can't be opened (%s): check its owner and mode", path, cause(err))
	}
	if got, err := root.Stat("."); err != nil || !os.SameFile(got, want) {
		root.Close()
		return nil, failure.Wrap(failure.Configuration, ErrUnusable,
			"the storage directory %s was replaced by another while it was opened: check who may write beside it", path)
	}
	return root, nil
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
	if info, err := d.root.Lstat(fileLock); err != nil || !info.Mode().IsRegular() {
		lock.Close()
		return failure.Wrap(failure.Configuration, ErrUnusable,
			"the file %s isn't a regular file: remove it, and check who may write there", filepath.Join(d.path, fileLock))
	}
	if err := filelock.Wait(context.Background(), lock, lockPatience); err != nil {
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

// lockPatience is how long the lock is waited for: that of a process which was
// killed a moment ago may still be there, and whoever restarts an agent at once
// needn't hear of it.
const lockPatience = time.Second

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
	if stored == nil {
		return nil, d.intent(), ErrEmpty
	}
	intent := d.intent()
	if intent != nil && intent.settledBy(stored) {
		// Save put the identity in place and was stopped before it removed the
		// intent.
		intent = nil
	}
	return stored, intent, nil
}

// recover looks at what a stopped run left in the reserved file.
func (d *Directory) recover(stored *Stored) (*Stored, error) {
	data, err := d.readFile(fileNext)
	if errors.Is(err, fs.ErrNotExist) {
		return stored, nil
	}
	if trace.IsBadParameter(err) {
		return stored, trace.Wrap(d.remove(fileNext)) // not a file of ours
	}
	if err != nil {
		// It may hold the only copy of the next generation.
		return nil, failure.Wrap(failure.Configuration, unusable(err),
			"the file %s can't be read (%s): check its owner and mode before the agent starts again", filepath.Join(d.path, fileNext), cause(err))
	}
	next, err := decode(data)
	switch {
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

// newer says whether a was issued after b. Times are the cluster's; where two
// are equal the file that was written later, a, counts.
func newer(a, b *Stored) bool {
	if a.TokenHash == b.TokenHash && a.Credentials.Generation() > b.Credentials.Generation() {
		return true
	}
	return !a.Credentials.NotBefore().Before(b.Credentials.NotBefore())
}

// Begin reserves space for the reply and records the intent.
func (d *Directory) Begin(intent Intent) error {
	if err := d.begin(intent); err != nil {
		// What was taken of a full disk is given back.
		d.dropNext()
		_ = d.remove(fileNext)
		_ = d.remove(fileIntent + tempSuffix)
		return failure.Wrap(failure.Transient, unusable(err),
			"the storage %s can't take a new identity (%s): the cluster isn't asked for one until it can", d.path, cause(err))
	}
	return nil
}

func (d *Directory) begin(intent Intent) error {
	if err := d.reserve(); err != nil {
		return trace.Wrap(err)
	}
	body, err := json.Marshal(intent)
	if err != nil {
		return trace.Wrap(err)
	}
	return trace.Wrap(d.replace(fileIntent, append(body, '\n')))
}

// reserve makes the file for the reply and takes its space.
func (d *Directory) reserve() error {
	d.dropNext()
	if err := d.remove(fileNext); err != nil {
		return trace.Wrap(err)
	}
	next, err := d.create(fileNext)
	if err != nil {
		return trace.Wrap(err)
	}
	d.next = next
	d.step("reserve")
	if _, err := next.Write(make([]byte, reserved)); err != nil {
		return trace.Wrap(err)
	}
	return trace.Wrap(next.Sync())
}

// Save writes the identity into the reserved file and puts it in place. The
// first thing it does is the write: from then on even a kill loses nothing. A
// Save that failed can be repeated, and never takes away what it has written.
func (d *Directory) Save(s Stored) error {
	data, err := encode(s)
	if err != nil {
		return trace.Wrap(err)
	}
	if d.next == nil {
		if err := d.reserve(); err != nil {
			return trace.Wrap(err)
		}
	}
	d.step("write")
	if _, err := d.next.WriteAt(data, 0); err != nil {
		return trace.Wrap(err)
	}
	d.step("truncate")
	if err := d.next.Truncate(int64(len(data))); err != nil {
		return trace.Wrap(err)
	}
	d.step("sync")
	if err := d.next.Sync(); err != nil {
		return trace.Wrap(err)
	}
	if err := d.rename(fileNext, fileIdentity); err != nil {
		return trace.Wrap(err)
	}
	// The file has its final name: nothing may write to it any more.
	d.dropNext()
	if err := d.sync(); err != nil {
		return trace.Wrap(err)
	}
	return trace.Wrap(d.remove(fileIntent))
}

// Abandon removes the intent and the reserved file.
func (d *Directory) Abandon() error {
	d.dropNext()
	return trace.NewAggregate(d.remove(fileIntent), d.remove(fileNext))
}

// publish puts a reply that an interrupted run left in place, durably.
func (d *Directory) publish() error {
	if err := d.rename(fileNext, fileIdentity); err != nil {
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

// intent reads the recorded intent, nil if there's none. One that can't be read
// counts as one of an unknown age for whatever is stored: the careful reading.
func (d *Directory) intent() *Intent {
	data, err := d.readFile(fileIntent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var intent Intent
	if err == nil {
		err = json.Unmarshal(data, &intent)
	}
	if err != nil {
		d.log.Warn("The record of an attempt is unreadable; it's taken for a renewal that was cut off.",
			"file", filepath.Join(d.path, fileIntent), "reason", cause(err))
		return &Intent{unreadable: true}
	}
	return &intent
}

// replace writes a small file whole.
func (d *Directory) replace(name string, data []byte) error {
	temp := name + tempSuffix
	if err := d.remove(temp); err != nil {
		return trace.Wrap(err)
	}
	f, err := d.create(temp)
	if err != nil {
		return trace.Wrap(err)
	}
	d.step("write " + temp)
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := trace.NewAggregate(err, f.Close()); err != nil {
		return trace.Wrap(err)
	}
	if err := d.rename(temp, name); err != nil {
		return trace.Wrap(err)
	}
	return trace.Wrap(d.sync())
}

// create makes a file that wasn't there, readable by nobody else from its first
// moment.
func (d *Directory) create(name string) (*os.File, error) {
	d.step("create " + name)
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

func (d *Directory) rename(from, to string) error {
	d.step("rename " + from + " to " + to)
	return d.root.Rename(from, to)
}

func (d *Directory) remove(name string) error {
	d.step("remove " + name)
	err := d.root.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// sync makes renames in the directory durable.
func (d *Directory) sync() error { return d.syncDir(".") }

func (d *Directory) syncDir(name string) error {
	d.step("sync directory " + name)
	f, err := d.root.Open(name)
	if err != nil {
		return trace.Wrap(err)
	}
	return trace.NewAggregate(f.Sync(), f.Close())
}

func (d *Directory) step(step string) {
	if d.hook != nil {
		d.hook(step)
	}
}

// cause is the short text at the end of an error's chain: "permission denied".
func cause(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return trace.Unwrap(err).Error()
}
