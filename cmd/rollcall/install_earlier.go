package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rollcall/failure"
	"rollcall/systemd"
)

// readEarlier reads the unit that is there: what an earlier run was told by flags,
// and no configuration says, holds until a flag says otherwise. An agent that ran
// as another user from then on couldn't read its own storage.
func (i *installation) readEarlier() systemd.Earlier {
	text, err := os.ReadFile(filepath.Join("/", i.root, i.unitPath()))
	if err != nil {
		return systemd.Earlier{} // plan tells of one that can't be read
	}
	return systemd.ReadEarlier(string(text))
}

// setAccount decides whom the agent runs as. given says whether a flag names the
// user; if none does, user is the default. An empty group was given by no flag.
func (i *installation) setAccount(user, group string, given bool) error {
	earlier := i.earlier
	if earlier.User != "" && !given {
		if err := i.validateEarlier("user", earlier.User); err != nil {
			return err
		}
		if earlier.User != user {
			i.noteKept("user", earlier.User, "user")
		}
		user = earlier.User
	}
	if group == "" && earlier.Group != "" && user == earlier.User {
		if err := i.validateEarlier("group", earlier.Group); err != nil {
			return err
		}
		group = earlier.Group
	}
	i.unit.User, i.unit.Group = user, groupOf(user, group)
	return nil
}

// validateEarlier checks a name that somebody has written into the unit by hand.
// what is the flag's name too.
func (i *installation) validateEarlier(what, name string) error {
	err := systemd.ValidateAccount(what, name)
	return failure.Wrap(failure.Configuration, err, "%v. The name is from the unit that is there, %s; --%s replaces it",
		err, filepath.Join("/", i.root, i.unitPath()), what)
}

// noteKept tells of what stays, though without the unit that is there it would be
// another.
func (i *installation) noteKept(what, value, flag string) {
	i.notes = append(i.notes, fmt.Sprintf("the %s %s is that of the unit that is there; --%s names another.", what, value, flag))
}

// setBinary decides which program the unit starts, if no flag has said so. That of
// the unit that is there stays: this one may be the one that is tried next to it.
func (i *installation) setBinary() error {
	if i.unit.Binary != "" {
		return nil
	}
	own, err := os.Executable()
	kept := i.earlier.Binary
	switch {
	case kept != "" && (i.root != "" || !missing(kept)):
		i.unit.Binary = kept
		if kept != own {
			i.noteKept("program", kept, "binary")
		}
		return nil
	case err != nil:
		return failure.Wrap(failure.Configuration, err, "the path of this program is unknown: give it with --binary")
	case kept != "":
		i.notes = append(i.notes, fmt.Sprintf("the program of the unit that is there, %s, doesn't exist: the unit starts %s from now on.", kept, own))
	}
	i.unit.Binary = own
	return nil
}

// setTokenFile decides where systemd reads the join token, if it's a credential.
func (i *installation) setTokenFile(given string) {
	name := i.unit.Credential
	if name != "" {
		i.unit.TokenFile = cmp.Or(given, i.earlier.TokenFiles[name], "/etc/rollcall."+name)
	}
}

// noteQuoted tells of what isn't kept, since it stands in quotes. given says whether
// there was a flag.
func (i *installation) noteQuoted(given func(flag string) bool) {
	flags := map[string]string{"User": "user", "Group": "group", "ExecStart": "binary", "LoadCredential": "token-file"}
	for _, setting := range i.earlier.Quoted {
		if setting == "LoadCredential" && (i.unit.Credential == "" || i.earlier.TokenFiles[i.unit.Credential] != "") {
			continue // it's another credential
		}
		if flag := flags[setting]; !given(flag) {
			i.notes = append(i.notes, fmt.Sprintf("%s= of the unit that is there is in quotes, and isn't kept: give it with --%s, if it's to stay.", setting, flag))
		}
	}
}

// missing says that nothing is at the path.
func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}
