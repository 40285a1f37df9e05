package config

import (
	"fmt"
	"path/filepath"
	"strings"
)

// checkPlaces refuses directories that are used twice or lie in one another.
// Paths are compared as they're written: nothing is looked up on the disk.
func (c *Config) checkPlaces() {
	type place struct{ path, dir, noun string }
	var seen []place
	add := func(p place) {
		for _, other := range seen {
			switch {
			case p.dir == other.dir:
				c.fail(p.path, fmt.Sprintf("%s writes into %s, and so does %s", p.noun, p.dir, other.noun), "give each a directory of its own")
			case within(p.dir, other.dir):
				c.fail(p.path, fmt.Sprintf("%s writes into %s, which is inside the directory of %s (%s)", p.noun, p.dir, other.noun, other.dir), "put them side by side")
			case within(other.dir, p.dir):
				c.fail(p.path, fmt.Sprintf("%s writes into %s, and the directory of %s (%s) is inside it", p.noun, p.dir, other.noun, other.dir), "put them side by side")
			}
		}
		seen = append(seen, p)
	}
	if d := c.Storage.Directory; d != nil && d.Path != "" {
		c.checkLiteral("storage.path", d.Path)
		add(place{"storage.path", filepath.Clean(d.Path), "storage"})
	}
	for _, out := range c.Outputs {
		if d := out.Destination.Directory; d != nil && d.Path != "" {
			c.checkLiteral(out.Path+".destination.path", d.Path)
			add(place{out.Path + ".destination.path", filepath.Clean(d.Path), out.Path})
		}
	}
}

// checkLiteral refuses a path that only a shell would understand: a directory
// named "${HOME}" would be made where the agent happens to run.
func (c *Config) checkLiteral(path, dir string) {
	if strings.Contains(dir, "${") || strings.HasPrefix(dir, "$") || strings.HasPrefix(dir, "~") {
		c.fail(path, fmt.Sprintf("%s is %q, and nothing is expanded", path, short(dir)), "write the path out")
	}
}

// within reports whether the clean path a is below the clean path b.
func within(a, b string) bool {
	switch {
	case a == b, filepath.IsAbs(a) != filepath.IsAbs(b):
		return false // one relative path can't be compared without the disk
	case b == ".":
		return !strings.HasPrefix(a, "..")
	default:
		return strings.HasPrefix(a, strings.TrimSuffix(b, "/")+"/")
	}
}
