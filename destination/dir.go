package destination

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// tempPrefix starts the names of what isn't in place yet. Whatever bears
	// such a name at the start of a write was left by a crash.
	tempPrefix = "..tmp-"
	// maxFile bounds what is read into memory, in bytes.
	maxFile = 16 << 20

	dirFlags  = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	readFlags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
)

// errIrregular is in the chain of an error about something that must be a
// regular file and isn't.
var errIrregular = errors.New("not a regular file")

// Dir is an open directory whose files are replaced whole. Everything happens
// below its descriptor, so that nobody can put another directory in its place
// meanwhile, and no symbolic link at a file's name is ever followed. Names have
// no slash. Errors are fs.PathErrors with the whole path.
//
// A Dir isn't safe for concurrent use.
type Dir struct {
	fd    int
	path  string
	perms permissions
	// hook is called before every step that changes the disk; tests stop there.
	hook func(step string)
}

// Close closes the descriptor.
func (d *Dir) Close() error { return d.fail("close", "", unix.Close(d.fd)) }

// Path returns the path that the directory was opened by.
func (d *Dir) Path() string { return d.path }

// Stat describes the directory itself, whatever has its path by now.
func (d *Dir) Stat() (fs.FileInfo, error) {
	f, err := d.open(".", dirFlags, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}

// Names returns the names of all entries, in no order.
func (d *Dir) Names() ([]string, error) {
	f, err := d.open(".", dirFlags, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// ReadFile reads a regular file of at most 16 MiB.
func (d *Dir) ReadFile(name string) ([]byte, error) {
	data, _, err := d.read(name)
	return data, err
}

// WriteFile replaces a file, or makes it: written under another name, readable
// by its owner alone, fsynced, renamed into place, and the rename made durable.
// A reader sees the old content or the new; a symbolic link at the name is
// replaced, never followed.
func (d *Dir) WriteFile(name string, data []byte) error {
	if err := d.checkPlain(name); err != nil {
		return err
	}
	temp := tempName()
	if err := d.createSynced(temp, data); err != nil {
		_ = d.Remove(temp) // the error above is the one that counts
		return err
	}
	if err := d.Rename(temp, name); err != nil {
		_ = d.Remove(temp)
		return err
	}
	return d.Sync()
}

// Rename gives an entry another name, in place of what has it. It's durable
// after Sync.
func (d *Dir) Rename(from, to string) error {
	d.step("rename " + from + " to " + to)
	return d.fail("rename", to, unix.Renameat(d.fd, from, d.fd, to))
}

// Remove removes a file or a symbolic link; one that isn't there is no error.
// It's durable after Sync.
func (d *Dir) Remove(name string) error {
	d.step("remove " + name)
	err := unix.Unlinkat(d.fd, name, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return d.fail("remove", name, err)
}

// Sync makes what happened to names durable.
func (d *Dir) Sync() error {
	d.step("sync")
	return d.fail("sync", "", unix.Fsync(d.fd))
}

// read returns a regular file's content and what fstat says of it.
func (d *Dir) read(name string) ([]byte, unix.Stat_t, error) {
	f, err := d.open(name, readFlags, 0)
	if err != nil {
		return nil, unix.Stat_t{}, err
	}
	defer f.Close()
	return d.readOpen(f, name)
}

// readOpen is read for a file that is open.
func (d *Dir) readOpen(f *os.File, name string) ([]byte, unix.Stat_t, error) {
	st, err := fstat(int(f.Fd()))
	if err != nil {
		return nil, st, d.fail("stat", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, st, d.fail("read", name, errIrregular)
	}
	if st.Size > maxFile {
		return nil, st, d.fail("read", name, unix.EFBIG)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	return data, st, err
}

// create makes a file that wasn't there. It isn't synced.
func (d *Dir) create(name string, data []byte) (*os.File, error) {
	d.step("create " + name)
	f, err := d.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, fileMode)
	if err != nil {
		return nil, err
	}
	d.step("write " + name)
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, err
	}
	if err := d.perms.apply(int(f.Fd()), false); err != nil {
		f.Close()
		return nil, d.fail("set permissions of", name, err)
	}
	// Starts the disk's work, so that the fsync of one file waits for all that
	// were written before. It's a hint: an error changes nothing.
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	return f, nil
}

// createSynced makes a file that wasn't there and that survives a power cut,
// once its name does.
func (d *Dir) createSynced(name string, data []byte) error {
	f, err := d.create(name, data)
	if err != nil {
		return err
	}
	d.step("sync " + name)
	return errors.Join(f.Sync(), f.Close())
}

// readlink returns a symbolic link's text.
func (d *Dir) readlink(name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(d.fd, name, buf)
	if err != nil {
		return "", d.fail("readlink", name, err)
	}
	return string(buf[:n]), nil
}

func (d *Dir) open(name string, flags int, mode uint32) (*os.File, error) {
	fd, err := openat(d.fd, name, flags, mode)
	if err != nil {
		return nil, d.fail("open", name, err)
	}
	return os.NewFile(uintptr(fd), d.join(name)), nil
}

func (d *Dir) checkPlain(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return d.fail("write", name, fs.ErrInvalid)
	}
	return nil
}

func (d *Dir) step(step string) {
	if d.hook != nil {
		d.hook(step)
	}
}

func (d *Dir) join(name string) string { return filepath.Join(d.path, name) }

// fail names the operation and the path of an error; nil stays nil.
func (d *Dir) fail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: d.join(name), Err: err}
}

func tempName() string { return tempPrefix + rand.Text()[:12] }

// openat tries again when a signal came in between, as package os does.
func openat(fd int, name string, flags int, mode uint32) (int, error) {
	for {
		got, err := unix.Openat(fd, name, flags, mode)
		if !errors.Is(err, unix.EINTR) {
			return got, err
		}
	}
}
