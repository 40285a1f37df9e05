package destination

import (
	"os"

	"golang.org/x/sys/unix"
)

const (
	fileMode = 0o600
	dirMode  = 0o700
)

// permissions are put on a new file or directory, through its descriptor,
// after its content is written and before anything can be seen under a name
// that programs know. Readers' ACLs will be a second implementation.
type permissions interface {
	apply(fd int, dir bool) error
}

// ownerOnly lets nobody but the owner in: 0600 and 0700.
type ownerOnly struct{}

// apply leaves a right mode alone, since not every file system can set one.
// Files are created with the mode already: this repairs what an unusual umask
// took away, and proves that the file system keeps modes.
func (ownerOnly) apply(fd int, dir bool) error {
	want := uint32(fileMode)
	if dir {
		want = dirMode
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Mode&0o777 == want {
		return nil
	}
	return os.NewSyscallError("fchmod", unix.Fchmod(fd, want))
}
