package hooks

import (
	"slices"
	"strings"
	"time"
)

// Change is what hooks are told of the set that is in place.
type Change struct {
	// Output is the output's name.
	Output string
	// Directory is the absolute path of the set; empty if it isn't in one.
	Directory string
	// NotAfter is when the certificate ends.
	NotAfter time.Time
	// Serial is the certificate's serial number in hexadecimal, as openssl
	// prints it.
	Serial string
	// Reason says why the set was renewed.
	Reason string
	// Files are the names that were added, changed or removed, sorted.
	Files []string
}

// after returns the change with the files of an earlier one that nobody was
// told of.
func (c Change) after(missed []string) Change {
	all := slices.Concat(missed, c.Files)
	slices.Sort(all)
	c.Files = slices.Compact(all)
	return c
}

// defaultPath is for a process that has no PATH itself.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is all that a program finds in its environment: nothing of the
// agent's own but PATH, HOME and LANG, since a join token may be among the rest.
// A home that isn't empty replaces HOME.
func environment(c Change, getenv func(string) string, home string) []string {
	path := getenv("PATH")
	if path == "" {
		path = defaultPath
	}
	env := []string{"PATH=" + path}
	if home == "" {
		home = getenv("HOME")
	}
	if home != "" {
		env = append(env, "HOME="+home)
	}
	if lang := getenv("LANG"); lang != "" {
		env = append(env, "LANG="+lang)
	}
	notAfter := ""
	if !c.NotAfter.IsZero() {
		notAfter = c.NotAfter.UTC().Format(time.RFC3339)
	}
	return append(env,
		"ROLLCALL_OUTPUT="+c.Output,
		"ROLLCALL_DIRECTORY="+c.Directory,
		"ROLLCALL_NOT_AFTER="+notAfter,
		"ROLLCALL_SERIAL="+c.Serial,
		"ROLLCALL_REASON="+c.Reason,
		"ROLLCALL_CHANGED_FILES="+strings.Join(c.Files, " "),
	)
}
