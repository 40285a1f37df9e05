package config

import (
	"fmt"

	"rollcall/tunnel"
)

// checkListeners refuses a second service at one address: whichever came late
// would never listen.
func (c *Config) checkListeners() {
	first := make(map[string]string)
	if diag := (&tunnel.ListenOptions{Listen: "tcp://" + c.DiagAddr}).Endpoint(); diag != "" && c.given("diag_addr") {
		first[diag] = "diag_addr"
	}
	for _, s := range c.Services {
		listens := listenOptions(s)
		if listens == nil || listens.Endpoint() == "" {
			continue
		}
		endpoint, path := listens.Endpoint(), joinPath(s.Path, "listen")
		other, taken := first[endpoint]
		if !taken {
			first[endpoint] = path
			continue
		}
		c.fail(path, fmt.Sprintf("%s is %s, and so is %s", path, endpoint, c.whereabouts(other)), "give each service an address of its own")
	}
}

// whereabouts names what somebody wrote, be it in the file or as a flag.
func (c *Config) whereabouts(key string) string {
	at := c.places[key]
	if at.Line == 0 {
		return at.File
	}
	return fmt.Sprintf("%s on line %d", key, at.Line)
}

// checkZeroes refuses a 0 that somebody wrote: a room takes it for a number that
// nobody gave, and would fill in its default.
func (c *Config) checkZeroes(s Service) {
	zero := func(key string, value, usual int) {
		path := joinPath(s.Path, key)
		if value == 0 && c.given(path) {
			c.fail(path, fmt.Sprintf("%s: is 0, and must be at least 1", path), fmt.Sprintf("leave it out for the default, %d", usual))
		}
	}
	if listens := listenOptions(s); listens != nil {
		zero("max_connections", listens.MaxConnections, tunnel.DefaultMaxConnections)
	}
	if proxy, ok := s.Options.(*tunnel.ProxyOptions); ok {
		zero("max_applications", proxy.MaxApplications, tunnel.DefaultMaxApplications)
	}
}

// listenerNotes tell of services that more than this host can use.
func (c *Config) listenerNotes() []Note {
	var notes []Note
	for _, s := range c.Services {
		listens := listenOptions(s)
		if listens == nil {
			continue
		}
		for _, text := range listens.Notes() {
			notes = append(notes, c.NoteOn(joinPath(s.Path, "allow_remote"), "is set: "+text))
		}
	}
	return notes
}
