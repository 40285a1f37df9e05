package config

import (
	"fmt"
	"path/filepath"
	"strings"

	"rollcall/outputs"
)

// maxName keeps names fit for a URL's path and a metric's label.
const maxName = 100

// named is an output or a service whose name is settled.
type named struct {
	path string
	// name is both the item's and its options'.
	name, common *string
	otherwise    string
}

// nameItems gives every output and service a name of its own: the user's, or
// one made of the type and what it is for. A name depends only on the items
// before it, so that adding one at the end renames none.
func (c *Config) nameItems() {
	items := c.namedItems()
	taken := ownNames()
	for _, item := range items {
		if *item.common == "" {
			continue
		}
		*item.name = *item.common
		path := joinPath(item.path, "name")
		if !validName(*item.name) {
			c.fail(path, fmt.Sprintf("%s is %q, and may only have a-z, 0-9, - and _", path, short(*item.name)), suggestName(*item.name))
		}
		if other, twice := taken[*item.name]; twice {
			c.fail(path, fmt.Sprintf("%s is %q, and so is the name of %s", path, short(*item.name), other), "names must differ, from those too that the agent uses itself")
			continue
		}
		taken[*item.name] = item.path
	}
	next := map[string]int{}
	for _, item := range items {
		if *item.name != "" {
			continue
		}
		*item.name = unique(item.otherwise, taken, next)
		*item.common = *item.name
		taken[*item.name] = item.path
	}
}

// namedItems are all outputs and services that could be decoded.
func (c *Config) namedItems() []named {
	var items []named
	for i := range c.Outputs {
		if out := &c.Outputs[i]; out.Common != nil {
			items = append(items, named{out.Path, &out.Name, &out.Common.Name, defaultName(*out)})
		}
	}
	for i := range c.Services {
		s := &c.Services[i]
		items = append(items, named{s.Path, &s.Name, &s.Options.Common().Name, slug(s.Type + "-" + s.Options.Subject())})
	}
	return items
}

// ownNames are the services that the agent hosts for itself, whose state stands
// beside the outputs' in /readyz.
func ownNames() map[string]string {
	const own = "a service of the agent's own"
	return map[string]string{"identity": own, "heartbeat": own, "authorities": own, "diagnostics": own}
}

func validName(name string) bool {
	return len(name) <= maxName && name != "" &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == "" && !strings.ContainsRune("_-", rune(name[0]))
}

func suggestName(name string) string {
	if plain := slug(name); plain != "" {
		return "for example " + short(plain)
	}
	return ""
}

// defaultName is the type and what the output is for: the application, the leaf
// cluster, or else the directory's last element.
func defaultName(out Output) string {
	subject := out.Destination.Type
	if out.Destination.Directory != nil {
		subject = filepath.Base(out.Destination.Directory.Path)
	}
	switch options := out.Options.(type) {
	case *outputs.ApplicationOptions:
		subject = options.AppName
	case *outputs.IdentityOptions:
		if options.Cluster != "" {
			subject = options.Cluster
		}
	}
	return slug(out.Type + "-" + subject)
}

// slug turns any text into [a-z0-9-].
func slug(text string) string {
	var out strings.Builder
	gap := false
	for _, r := range strings.ToLower(text) {
		switch {
		case (r < 'a' || r > 'z') && (r < '0' || r > '9'):
			gap = true
			continue
		case gap && out.Len() > 0:
			out.WriteByte('-')
		}
		gap = false
		out.WriteRune(r)
	}
	plain := out.String()
	// Room is left for the number that may make it unique.
	return strings.TrimSuffix(plain[:min(len(plain), maxName-10)], "-")
}

// unique returns the name, or the first of name-2, name-3 … that is free. next
// remembers where the search for a name left off.
func unique(name string, taken map[string]string, next map[string]int) string {
	if _, exists := taken[name]; !exists {
		return name
	}
	for i := max(next[name], 2); ; i++ {
		candidate := fmt.Sprintf("%s-%d", name, i)
		if _, exists := taken[candidate]; !exists {
			next[name] = i + 1
			return candidate
		}
	}
}
