package systemd

import (
	"path/filepath"
	"slices"
	"strings"
)

// shared are directories that belong to everybody. A sandbox that could write to
// one for a socket's sake would be none.
var shared = []string{
	"/", "/boot", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/run/lock", "/run/user", "/srv", "/tmp",
	"/var", "/var/cache", "/var/lib", "/var/lock", "/var/log", "/var/spool", "/var/tmp",
}

// sharedTrees are directories that are the system's own, with all that is in them.
var sharedTrees = []string{
	"/bin", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run/dbus", "/run/systemd", "/sbin",
	"/sys", "/usr",
}

// Shared says that a socket's directory is the system's or everybody's, so that the
// sandbox isn't opened for it.
func Shared(socket string) bool {
	dir := socketDirectory(socket)
	return slices.Contains(shared, dir) || below(dir, sharedTrees...)
}

// runtimeDirectory is the one that systemd makes at the start, and that the agent
// may write to.
func (o UnitOptions) runtimeDirectory() string { return filepath.Join("/run", o.Name) }

// InRuntimeDirectory says that a socket lies in the runtime directory.
func (o UnitOptions) InRuntimeDirectory(socket string) bool {
	return below(socketDirectory(socket), o.runtimeDirectory())
}

// Passable says that others must get through the runtime directory, to a socket
// in it. They can't see what else is there, and each thing has its own rights.
func (o UnitOptions) Passable() bool { return slices.ContainsFunc(o.Sockets, o.InRuntimeDirectory) }

// socketDirectory is the directory that a socket is in. /var/run is another name
// of /run, by a link that each Linux has.
func socketDirectory(socket string) string {
	dir := filepath.Dir(filepath.Clean(socket))
	if below(dir, "/var/run") {
		return strings.TrimPrefix(dir, "/var")
	}
	return dir
}
