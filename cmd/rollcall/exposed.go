package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rollcall/config"
)

// exposed is a bearer token's file that everybody may read, by its own mode. It's no
// reason to refuse: Kubernetes mounts secrets with mode 0644, and a directory may
// keep others away. What the group's bits say is left alone: a group of the agent's
// may be meant, and with an ACL they are its mask.
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
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o004 == 0 {
		return e, false
	}
	return exposed{path, info.Mode().Perm()}, true
}

// remedy mends it, and takes nothing from the owner and the group.
func (e exposed) remedy() string {
	return fmt.Sprintf("run `chmod o= %s`, or give the volume that it's on another mode; the agent's user must own the file or be in its group", e.path)
}

// exposedNotes are validate's notes on the bearer tokens' files that are there.
func exposedNotes(cfg *config.Config) []config.Note {
	var notes []config.Note
	for _, file := range cfg.TokenFiles() {
		if e, ok := exposedFile(file.Path); ok {
			notes = append(notes, cfg.NoteOn(file.Key, fmt.Sprintf(
				"is %s, which everybody may read by its mode (%04o), and so use the application: %s", e.path, e.mode, e.remedy())))
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
	warn("The bearer token's file may be read by everybody, by its mode; whoever reads it can use the application.",
		"path", e.path, "mode", fmt.Sprintf("%04o", e.mode), "remedy", e.remedy())
}
