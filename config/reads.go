package config

import (
	"fmt"
	"path/filepath"

	"rollcall/systemd"
)

// Read is a path that the agent reads, or that one of its hooks reads or runs.
type Read struct {
	// Key is where the file has it: "outputs[0].on_renewal[1].exec[0]".
	Key string
	// Path is absolute.
	Path string
}

// Reads are the absolute paths beside the storage and the outputs' directories.
func (c *Config) Reads() []Read {
	var reads []Read
	add := func(key, path string) {
		if filepath.IsAbs(path) {
			reads = append(reads, Read{key, filepath.Clean(path)})
		}
	}
	add("proxy_ca", c.Cluster.ProxyCA)
	add("onboarding.ca_path", c.Onboarding.CAPath)
	add("onboarding.token", c.Onboarding.Token)
	add("onboarding.kubernetes.token_path", c.Onboarding.Kubernetes.TokenPath)
	add("hooks_dir", c.HooksDir)
	for _, out := range c.Outputs {
		if out.Common == nil {
			continue
		}
		if out.Common.HooksDir != c.HooksDir {
			add(out.Path+".hooks_dir", out.Common.HooksDir)
		}
		for i, hook := range out.Common.OnRenewal {
			at := fmt.Sprintf("%s.on_renewal[%d]", out.Path, i)
			if len(hook.Exec) > 0 {
				add(at+".exec[0]", hook.Exec[0])
			}
			add(at+".pid_file", hook.PIDFile)
		}
	}
	return reads
}

// hiddenNotes tell of paths that the agent can't see under systemd.
func (c *Config) hiddenNotes() []Note {
	var notes []Note
	for _, read := range c.Reads() {
		setting := systemd.Hidden(read.Path)
		if setting == "" {
			continue
		}
		at, ok := c.places[read.Key]
		if !ok {
			at = Position{File: c.File}
		}
		notes = append(notes, Note{at.File, at.Line, at.Column, fmt.Sprintf(
			"%s is %s, which the sandbox of a systemd unit hides (%s): put it elsewhere, such as below /etc or /usr/local, or run `rollcall install systemd --write --force` again, with the flags of the first time, which opens the sandbox for it",
			read.Key, read.Path, setting)})
	}
	return notes
}
