package destination

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"rollcall/failure"
)

// maxName is the longest component of a name in bytes; file systems take 255.
const maxName = 200

// checkName refuses names that could lead out of a directory or meet the names
// that this package uses itself, all of which start with "..".
func checkName(name string) error {
	parts := strings.Split(name, "/")
	if len(parts) > 2 {
		return failure.New(failure.Configuration, "the file name %q has more than one slash", name)
	}
	for _, part := range parts {
		switch {
		case part == "":
			return failure.New(failure.Configuration, "the file name %q is empty or starts or ends with a slash", name)
		case part == ".", strings.HasPrefix(part, ".."):
			return failure.New(failure.Configuration, "the file name %q isn't allowed: names that start with .. belong to the directory itself", name)
		case len(part) > maxName:
			return failure.New(failure.Configuration, "the file name %.40q… is longer than %d bytes", name, maxName)
		case strings.ContainsFunc(part, isControl):
			return failure.New(failure.Configuration, "the file name %q holds a control character", name)
		}
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// checkSet refuses bad names, and a name that is both a file and a directory.
func checkSet(set Set) error {
	for _, name := range sorted(set) {
		if err := checkName(name); err != nil {
			return err
		}
		top, rest := split(name)
		if _, both := set[top]; both && rest != "" {
			return failure.New(failure.Configuration, "the file name %q isn't possible beside a file %q", name, top)
		}
	}
	return nil
}

// split returns the visible name in the directory and, for "dir/file", the
// file's name below it.
func split(name string) (top, rest string) {
	top, rest, _ = strings.Cut(name, "/")
	return top, rest
}

// tops groups names by the visible name; files of the directory itself have the
// one member "".
func tops(names []string) map[string][]string {
	out := make(map[string][]string)
	for _, name := range names {
		top, rest := split(name)
		out[top] = append(out[top], rest)
	}
	return out
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// union returns the sorted names that occur in any of the lists.
func union(lists ...[]string) []string {
	all := slices.Sorted(slices.Values(slices.Concat(lists...)))
	return slices.Compact(all)
}

// inOrder returns the set's names, private keys first: where files are replaced
// one by one, a program that reloads when its certificate changes finds the key
// in place.
func inOrder(set Set) []string {
	var keys, others []string
	for _, name := range sorted(set) {
		if name == "key" || strings.HasSuffix(name, "/key") || strings.HasSuffix(name, ".key") {
			keys = append(keys, name)
		} else {
			others = append(others, name)
		}
	}
	return append(keys, others...)
}

// diff returns the sorted names that differ.
func diff(before, after Set) []string {
	var names []string
	for _, name := range union(sorted(before), sorted(after)) {
		b, was := before[name]
		a, is := after[name]
		if was != is || !bytes.Equal(a, b) {
			names = append(names, name)
		}
	}
	return names
}
