package destination

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root " + why)
	}
}

// as runs f as another user and group with no capabilities. Linux keeps these
// per thread: f has a thread of its own, which ends with it.
func as(t *testing.T, id int, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		become(t, id)
		f()
	}()
	<-done
}

// become changes this thread's user. A test that can't is worth nothing.
func become(t *testing.T, id int) {
	for _, call := range [][4]uintptr{
		{unix.SYS_SETGROUPS, 0, 0, 0},
		{unix.SYS_SETRESGID, uintptr(id), uintptr(id), uintptr(id)},
		{unix.SYS_SETRESUID, uintptr(id), uintptr(id), uintptr(id)},
	} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			t.Errorf("can't become user %d: %v", id, errno)
			runtime.Goexit()
		}
	}
}

// reachable returns a directory that every user can get to.
func reachable(t *testing.T) string {
	t.Helper()
	path := quick(t)
	require.NoError(t, os.Chmod(path, 0o711))
	for at := path; at != "/"; at = filepath.Dir(at) {
		var st unix.Stat_t
		require.NoError(t, unix.Stat(at, &st))
		if st.Mode&0o001 == 0 {
			require.NoError(t, os.Chmod(at, 0o711), "t.TempDir is below a directory of mode 0700")
		}
	}
	return path
}

// mountRAM mounts a file system without extended attributes.
func mountRAM(t *testing.T) string {
	return mount(t, "rollcall-test", "ramfs", "")
}

// mountVFAT mounts a file system without ACLs, modes and links: by the kernel, or,
// where that has none, by programs. fusefat keeps the files in the image, and
// bindfs shows them with the modes that the kernel's options would.
func mountVFAT(t *testing.T) string {
	needRoot(t, "to mount a file system")
	image := filepath.Join(t.TempDir(), "image")
	require.NoError(t, os.WriteFile(image, make([]byte, 16<<20), 0o600))
	run(t, "dosfstools", "mkfs.vfat", image)
	path := t.TempDir()
	out, err := exec.Command("mount", "-t", "vfat", "-o", "loop,fmask=177,dmask=077,uid=0", image, path).CombinedOutput()
	if err == nil {
		unmountLater(t, path)
		return path
	}
	if fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skipf("needs root with the right to mount vfat, and a kernel that has it (%s) or FUSE (%v)", out, err)
	} else {
		require.NoError(t, fuse.Close())
	}
	below := t.TempDir()
	run(t, "fusefat", "fusefat", "-o", "rw+", image, below)
	unmountLater(t, below)
	run(t, "bindfs", "bindfs", "-p", "u=rwD,g=,o=", below, path)
	unmountLater(t, path)
	return path
}

// run runs a program of a Debian package.
func run(t *testing.T, pkg, program string, args ...string) {
	t.Helper()
	_, err := exec.LookPath(program)
	require.NoError(t, err, "it's in Debian's package "+pkg)
	out, err := exec.Command(program, args...).CombinedOutput()
	require.NoError(t, err, string(out))
}

func unmountLater(t *testing.T, path string) {
	t.Cleanup(func() { require.NoError(t, unix.Unmount(path, unix.MNT_DETACH)) })
}

func mount(t *testing.T, source, kind, options string) string {
	t.Helper()
	needRoot(t, "to mount a file system")
	path := t.TempDir()
	err := unix.Mount(source, path, kind, 0, options)
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs root with the right to mount (a container's root hasn't)")
	}
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, 0o700))
	unmountLater(t, path)
	return path
}
