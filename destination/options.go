package destination

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"rollcall/failure"
)

// Type names as the configuration has them.
const (
	TypeDirectory        = "directory"
	TypeMemory           = "memory"
	TypeNop              = "nop"
	TypeKubernetesSecret = "kubernetes_secret"
)

// SymlinkMode says how far symbolic links on the way to a destination are
// followed.
type SymlinkMode string

// The modes are the official agent's.
const (
	SymlinksSecure    SymlinkMode = "secure"
	SymlinksTrySecure SymlinkMode = "try-secure"
	SymlinksInsecure  SymlinkMode = "insecure"
)

// ACLMode says whether POSIX ACLs are used.
type ACLMode string

// The modes are the official agent's.
const (
	ACLTry      ACLMode = "try"
	ACLRequired ACLMode = "required"
	ACLOff      ACLMode = "off"
)

// UpdateMode says how a set is replaced.
type UpdateMode string

const (
	// UpdateSet publishes a versioned directory by one symlink swap.
	UpdateSet UpdateMode = "set"
	// UpdateFile renames each file into place.
	UpdateFile UpdateMode = "file"
	// UpdateInPlace writes into the existing files, for files that are
	// bind-mounted one by one. It's the only mode in which a reader can see a
	// half-written file.
	UpdateInPlace UpdateMode = "in-place"
)

// Reader is one user or group that may read a directory's files.
type Reader struct {
	// User is a user name or a numeric id.
	User string `yaml:"user,omitempty"`
	// Group is a group name or a numeric id.
	Group string `yaml:"group,omitempty"`
}

// DirectoryOptions configure a directory on the local file system.
type DirectoryOptions struct {
	// Path is the directory; it's created with mode 0700 if it's missing.
	Path string `yaml:"path"`
	// Symlinks is secure, try-secure (default) or insecure.
	Symlinks SymlinkMode `yaml:"symlinks,omitempty"`
	// ACLs is try (default), required or off: whether POSIX ACLs let the readers
	// in. Where that's impossible (no ACLs in the file system, a directory of
	// another user), try says so once and lets the owner alone read; required
	// refuses. With off, none is set, and those that let readers in before are
	// taken away.
	ACLs ACLMode `yaml:"acls,omitempty"`
	// Readers may read the files (r) and list the directories (r-x), by POSIX
	// ACL; nobody else may. Default: those that `rollcall init` left as the
	// directory's default ACL, if root or the agent's user owns the directory.
	Readers []Reader `yaml:"readers,omitempty"`
	// Update is set (default), file or in-place.
	Update UpdateMode `yaml:"update,omitempty"`
}

// SetDefaults fills in what isn't given.
func (o *DirectoryOptions) SetDefaults() {
	if o.Symlinks == "" {
		o.Symlinks = SymlinksTrySecure
	}
	if o.ACLs == "" {
		o.ACLs = ACLTry
	}
	if o.Update == "" {
		o.Update = UpdateSet
	}
}

// Validate fills in the defaults and returns a failure.FieldError for each
// field that can't work, joined. It touches no disk.
func (o *DirectoryOptions) Validate() error {
	o.SetDefaults()
	var errs []error
	if o.Path == "" {
		errs = append(errs, failure.Field("path", "is required: give the directory that the files go to"))
	}
	if strings.ContainsFunc(o.Path, isControl) {
		errs = append(errs, failure.Field("path", "holds a control character"))
	}
	switch o.Symlinks {
	case SymlinksSecure, SymlinksTrySecure, SymlinksInsecure:
	default:
		errs = append(errs, failure.Field("symlinks", "is %q: use %s, %s or %s", o.Symlinks, SymlinksSecure, SymlinksTrySecure, SymlinksInsecure))
	}
	switch o.ACLs {
	case ACLTry, ACLOff, ACLRequired:
	default:
		errs = append(errs, failure.Field("acls", "is %q: use %s, %s or %s", o.ACLs, ACLTry, ACLRequired, ACLOff))
	}
	errs = append(errs, o.validateReaders()...)
	switch o.Update {
	case UpdateSet, UpdateFile, UpdateInPlace:
	default:
		errs = append(errs, failure.Field("update", "is %q: use %s, %s or %s", o.Update, UpdateSet, UpdateFile, UpdateInPlace))
	}
	return errors.Join(errs...)
}

// validateReaders looks no name up: the file may be checked on another host.
func (o *DirectoryOptions) validateReaders() []error {
	var errs []error
	if len(o.Readers) > 0 && o.ACLs == ACLOff {
		errs = append(errs, failure.Field("readers", "need ACLs, and `acls: %s` forbids them: use `acls: %s`, or leave readers out", ACLOff, ACLRequired))
	}
	for i, r := range o.Readers {
		at := fmt.Sprintf("readers[%d]", i)
		switch {
		case r.User == "" && r.Group == "":
			errs = append(errs, failure.Field(at, "names nobody: give a user or a group, by name or number"))
		case r.User != "" && r.Group != "":
			errs = append(errs, failure.Field(at, "has a user and a group: make two readers of it"))
		case slices.Contains(o.Readers[:i], r):
			errs = append(errs, failure.Field(at, "is there twice: name each reader once"))
		}
	}
	return errs
}
