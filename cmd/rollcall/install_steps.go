package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"rollcall/failure"
)

// step is one thing that an installation does.
type step struct {
	// would and done say it before and after.
	would, done string
	// do does it; nil: it can't be done, and would says why.
	do func() error
}

// plan looks at what's there and says what is to be done.
func (i *installation) plan() ([]step, error) {
	var steps []step
	if account := i.account(); account != nil {
		steps = append(steps, account...)
	}
	unit, err := i.file(i.unitPath(), i.unit.Text())
	if err != nil {
		return nil, err
	}
	steps = append(steps, unit)
	for _, file := range i.permits() {
		allowed, err := i.file(file.Path, file.Text)
		if err != nil {
			return nil, err
		}
		steps = append(steps, allowed)
	}
	if i.root == "" {
		steps = append(steps, i.command("systemctl", "daemon-reload"))
	}
	return steps, nil
}

// account makes the user, by systemd's own way of declaring one.
func (i *installation) account() []step {
	if _, err := strconv.Atoi(i.unit.User); err == nil {
		return nil
	}
	if _, err := user.Lookup(i.unit.User); err == nil && i.root == "" {
		return nil
	}
	text := fmt.Sprintf("# Written by \"rollcall install systemd\".\nu %s - \"rollcall agent\" /nonexistent -\n", i.unit.User)
	if i.unit.Group != i.unit.User {
		text += fmt.Sprintf("g %s -\nm %s %s\n", i.unit.Group, i.unit.User, i.unit.Group)
	}
	path := filepath.Join("/etc/sysusers.d", i.unit.Name+".conf")
	declared, err := i.file(path, text)
	if err != nil {
		return []step{{would: err.Error()}}
	}
	if i.root != "" {
		return []step{declared}
	}
	return []step{declared, i.command("systemd-sysusers", path)}
}

// file writes a file, or finds it as it should be, or in the way.
func (i *installation) file(path, text string) (step, error) {
	path = filepath.Join("/", i.root, path)
	present, err := os.ReadFile(path)
	switch {
	case err == nil && string(present) == text:
		return step{would: "leave " + path + " as it is", done: path + " is as it should be", do: func() error { return nil }}, nil
	case err == nil && !i.force:
		return step{would: path + " is there and differs: put changes into a drop-in (systemctl edit), and overwrite the file with --force"}, nil
	case errors.Is(err, fs.ErrPermission) && !i.write:
		// polkit's rules are root's to see, and looking first is anybody's.
		return step{would: "write " + path + ", unless it differs: only root can look"}, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return step{}, failure.Wrap(failure.Configuration, err, "%s can't be read: %v", path, err)
	}
	return step{would: "write " + path, done: "Wrote " + path, do: func() error {
		if err := writeWhole(path, text); err != nil {
			return failure.Wrap(failure.Configuration, err, "%s can't be written (%v): run this as root", path, err)
		}
		return nil
	}}, nil
}

// writeWhole writes a file that everybody may read, by rename, so that systemd
// never reads half of it.
func writeWhole(path, text string) error {
	// The process's umask is for secrets, and these are none.
	defer syscall.Umask(syscall.Umask(0o022))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".rollcall-")
	if err != nil {
		return err
	}
	_, err = temporary.WriteString(text)
	err = errors.Join(err, temporary.Chmod(0o644), temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}

// command runs a program of systemd's.
func (i *installation) command(name string, args ...string) step {
	line := strings.Join(append([]string{name}, args...), " ")
	return step{would: "run " + line, done: "Ran " + line, do: func() error {
		out, err := exec.Command(name, args...).CombinedOutput()
		return failure.Wrap(failure.Other, err, "`%s` failed (%v): %s", line, err, bytes.TrimSpace(out))
	}}
}
