package config

import (
	"fmt"
	"path/filepath"
	"strings"

	"rollcall/discovery/settings"
	"rollcall/systemd"
	"rollcall/tunnel"
)

// Read is a path that the agent reads or listens on, or that one of its hooks
// reads or runs.
type Read struct {
	// Key is where the file has it: "outputs[0].on_renewal[1].exec[0]".
	Key string
	// Path is absolute.
	Path string
}

// reads collects paths that are absolute.
type reads []Read

func (r *reads) add(key, path string) {
	if filepath.IsAbs(path) {
		*r = append(*r, Read{key, filepath.Clean(path)})
	}
}

// Reads are the absolute paths beside the storage and the outputs' directories.
func (c *Config) Reads() []Read {
	var r reads
	r.add("proxy_ca", c.Cluster.ProxyCA)
	r.add("onboarding.ca_path", c.Onboarding.CAPath)
	r.add("onboarding.token", c.Onboarding.Token)
	r.add("onboarding.kubernetes.token_path", c.Onboarding.Kubernetes.TokenPath)
	r.add("hooks_dir", c.HooksDir)
	for _, out := range c.Outputs {
		if out.Common != nil {
			c.addHooks(&r, out)
		}
	}
	for _, s := range c.Services {
		if listens := listenOptions(s); listens != nil {
			r.add(s.Path+".bearer_token", listens.BearerToken)
		}
		if discovers, ok := s.Options.(*settings.Options); ok {
			r.addDiscovery(s.Path, discovers)
		}
	}
	return r
}

func (c *Config) addHooks(r *reads, out Output) {
	if out.Common.HooksDir != c.HooksDir {
		r.add(out.Path+".hooks_dir", out.Common.HooksDir)
	}
	for i, hook := range out.Common.OnRenewal {
		at := fmt.Sprintf("%s.on_renewal[%d]", out.Path, i)
		if len(hook.Exec) > 0 {
			r.add(at+".exec[0]", hook.Exec[0])
		}
		r.add(at+".pid_file", hook.PIDFile)
	}
}

func (r *reads) addDiscovery(at string, o *settings.Options) {
	if source := o.Source.File; source != nil {
		r.add(at+".source.path", source.Path)
	}
	if source := o.Source.Docker; source != nil {
		// A Docker of a user's own has its socket in /run/user.
		socket, _ := strings.CutPrefix(source.Host, "unix://")
		r.add(at+".source.host", socket)
		r.add(at+".source.tls.ca", source.TLS.CA)
		r.add(at+".source.tls.cert", source.TLS.Cert)
		r.add(at+".source.tls.key", source.TLS.Key)
	}
	r.add(at+".agent.ca_file", o.Agent.CAFile)
}

// Sockets are the unix sockets that services listen on.
func (c *Config) Sockets() []Read {
	var r reads
	for _, s := range c.Services {
		if listens := listenOptions(s); listens != nil {
			r.add(s.Path+".listen", listens.SocketPath())
		}
	}
	return r
}

// listenOptions are those of a service that clients connect to; nil for others.
func listenOptions(s Service) *tunnel.ListenOptions {
	switch o := s.Options.(type) {
	case *tunnel.Options:
		return &o.ListenOptions
	case *tunnel.ProxyOptions:
		return &o.ListenOptions
	}
	return nil
}

// TokenFiles are the files that services' bearer tokens are read from.
func (c *Config) TokenFiles() []Read {
	var r reads
	for _, s := range c.Services {
		if listens := listenOptions(s); listens != nil {
			r.add(s.Path+".bearer_token", listens.BearerToken)
		}
	}
	return r
}

// Secrets are the names of the systemd credentials that services read, by their
// keys.
func (c *Config) Secrets() map[string]string {
	secrets := make(map[string]string)
	for _, s := range c.Services {
		listens := listenOptions(s)
		if listens == nil {
			continue
		}
		if name, ok := strings.CutPrefix(listens.BearerToken, "credential:"); ok {
			secrets[s.Path+".bearer_token"] = name
		}
	}
	return secrets
}

// hiddenNotes tell of paths that the agent can't see under systemd.
func (c *Config) hiddenNotes() []Note {
	var notes []Note
	for _, read := range c.Reads() {
		notes = c.appendHidden(notes, read, "such as below /etc or /usr/local, or "+c.installAgain())
	}
	for _, socket := range c.Sockets() {
		where := "such as in the unit's directory below /run"
		if !systemd.Shared(socket.Path) {
			where += ", or " + c.installAgain()
		}
		notes = c.appendHidden(notes, socket, where)
	}
	return notes
}

// installAgain says how the unit is written anew. Its name is none of the
// configuration's.
func (c *Config) installAgain() string {
	file := ""
	if c.File != DefaultPath {
		file = " -c " + c.File
	}
	return fmt.Sprintf("run `rollcall install systemd%s --write --force` again (with the --name that the unit was made with, if any), which opens the sandbox for it", file)
}

// appendHidden appends a note if the path is hidden. where says what to do.
func (c *Config) appendHidden(notes []Note, read Read, where string) []Note {
	setting := systemd.Hidden(read.Path)
	if setting == "" {
		return notes
	}
	return append(notes, c.NoteOn(read.Key, fmt.Sprintf(
		"is %s, which the sandbox of a systemd unit hides (%s): put it elsewhere, %s", read.Path, setting, where)))
}
