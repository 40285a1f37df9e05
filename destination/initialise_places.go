package destination

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rollcall/failure"
)

// identityName is the file in a bot's storage that its key is in. It's never
// among what an output writes.
const identityName = "identity.json"

// systemDirectories belong to the whole host: with one of them given to a bot and
// shut to everybody else, the host would be lost.
func systemDirectories() []string {
	return []string{
		"/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/lost+found", "/media",
		"/mnt", "/opt", "/proc", "/root", "/run", "/sbin", "/snap", "/srv", "/sys", "/tmp", "/usr", "/var",
		"/dev/shm", "/run/user", "/usr/bin", "/usr/lib", "/usr/lib64", "/usr/local", "/usr/sbin", "/usr/share",
		"/var/cache", "/var/lib", "/var/log", "/var/run", "/var/spool", "/var/tmp",
	}
}

// checkPlace refuses directories that can't be anybody's own.
func checkPlace(path string) error {
	full, err := filepath.Abs(path)
	if err != nil {
		return failure.Wrap(failure.Configuration, err, "the directory %s can't be found: %v", path, err)
	}
	home, _ := os.UserHomeDir() // without one there's nothing to compare
	switch {
	case slices.Contains(systemDirectories(), full):
		return failure.New(failure.Configuration,
			"%s is a directory of the whole system, and would be shut to everybody but the bot and the readers: give a directory below it, for rollcall alone", full)
	case filepath.Dir(full) == "/home", home != "" && full == filepath.Clean(home):
		return failure.New(failure.Configuration,
			"%s is a user's home, and would be shut to everybody but the bot and the readers: give a directory below it, for rollcall alone", full)
	case strings.HasPrefix(full, "/proc/"), strings.HasPrefix(full, "/sys/"):
		return failure.New(failure.Configuration, "%s is the kernel's, and keeps no files: give another directory", full)
	}
	return nil
}

// checkClean refuses to remove what is in a directory that was never an output's.
func (p *InitPlan) checkClean(names []string) error {
	if slices.Contains(names, identityName) {
		return failure.New(failure.Configuration,
			"%s holds a bot's identity (%s): it's a storage, and nothing is removed from it; leave --clean out, or give the output's directory", p.Path, identityName)
	}
	var others bool
	for _, name := range names {
		k, err := p.dir.kind(name)
		if err != nil {
			return err
		}
		if (name == dataName || name == manifestName) && p.ownName(name, k) {
			return nil
		}
		others = others || !p.ownName(name, k)
	}
	if !others {
		return nil
	}
	return failure.New(failure.Configuration,
		"%s isn't empty, and rollcall never wrote there (neither %s nor %s is in it): nothing is removed; look if it's the right directory, and remove by hand what doesn't belong there, or leave --clean out",
		p.Path, dataName, manifestName)
}
