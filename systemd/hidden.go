package systemd

import (
	"path/filepath"
	"strings"
)

// Hidden names the setting of the unit's sandbox that hides a path from the agent
// and its hooks, unless the unit is made to show it; empty: none does.
func Hidden(path string) string {
	switch {
	case below(path, "/home", "/root", "/run/user", "/var/run/user"):
		return "ProtectHome="
	case below(path, "/tmp", "/var/tmp"):
		return "PrivateTmp="
	}
	return ""
}

// InHome says that a path that it uses lies in a home directory.
func (o UnitOptions) InHome() bool { return o.uses("ProtectHome=") }

// InTmp says that a path that it uses lies in a directory that PrivateTmp=
// replaces.
func (o UnitOptions) InTmp() bool { return o.uses("PrivateTmp=") }

func (o UnitOptions) uses(hidden string) bool {
	paths := append(o.Writable(), o.Config, o.Binary)
	for _, path := range append(paths, o.Readable...) {
		if Hidden(path) == hidden {
			return true
		}
	}
	return false
}

// below says that a path is one of the parents, or in one.
func below(path string, parents ...string) bool {
	path = filepath.Clean(path)
	for _, parent := range parents {
		if path == parent || strings.HasPrefix(path, parent+"/") {
			return true
		}
	}
	return false
}
