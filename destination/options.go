package destination

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
	// ACLs is try (default), required or off.
	ACLs ACLMode `yaml:"acls,omitempty"`
	// Readers may read the files, by POSIX ACL.
	Readers []Reader `yaml:"readers,omitempty"`
	// Update is set (default), file or in-place.
	Update UpdateMode `yaml:"update,omitempty"`
}
