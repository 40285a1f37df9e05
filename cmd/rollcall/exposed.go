package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rollcall/config"
)

// exposed is a bearer token's file that others than its owner may read. It's no
// reason to refuse: Kubernetes mounts secrets with mode 0644.
type exposed struct {
	path string
	mode fs.FileMode
}

// exposedFile looks at a file. What can't be seen isn't exposed: whoever reads
// the token says what is wrong. A credential of systemd's is nobody else's.
func exposedFile(path string) (e exposed, ok bool) {
	if !filepath.IsAbs(path) {
		return e, false
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o044 == 0 {
		return e, false
	}
	return exposed{path, info.Mode().Perm()}, true
}

// remedy mends it. With that mode nobody but the owner gets at the token, and so
// the owner must be the one who is to.
func (e exposed) remedy() string {
	return fmt.Sprintf("run `chmod 600 %s`; the agent's user must own the file", e.path)
}

// exposedNotes are validate's notes on the bearer tokens' files that are there.
func exposedNotes(cfg *config.Config) []config.Note {
	var notes []config.Note
	for _, file := range cfg.TokenFiles() {
		if e, ok := exposedFile(file.Path); ok {
			notes = append(notes, cfg.NoteOn(file.Key, fmt.Sprintf(
				"is %s, which others than its owner may read (mode %04o), and so use the application: %s", e.path, e.mode, e.remedy())))
		}
	}
	return notes
}

// tokenWarnings logs a warning for each file once, however many services there
// are whose token it holds.
type tokenWarnings map[string]bool

func (w tokenWarnings) look(path string, warn func(msg string, args ...any)) {
	e, ok := exposedFile(path)
	if !ok || w[path] {
		return
	}
	w[path] = true
	warn("The bearer token's file may be read by others than its owner, who can use the application with it.",
		"path", e.path, "mode", fmt.Sprintf("%04o", e.mode), "remedy", e.remedy())
}
