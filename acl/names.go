package acl

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
)

// LookupUser returns the id of a user by name or number. A number needs no
// account. Names come from /etc/passwd: those that only a directory service
// knows must be given as numbers.
func LookupUser(name string) (uint32, error) {
	if id, ok := number(name); ok {
		return id, nil
	}
	found, err := user.Lookup(name)
	if err != nil {
		return 0, unknown("user", name, err)
	}
	return parse("user", name, found.Uid)
}

// LookupGroup returns the id of a group by name or number, as LookupUser does.
func LookupGroup(name string) (uint32, error) {
	if id, ok := number(name); ok {
		return id, nil
	}
	found, err := user.LookupGroup(name)
	if err != nil {
		return 0, unknown("group", name, err)
	}
	return parse("group", name, found.Gid)
}

// Groups returns the ids of a user's groups, the first one first; none if the
// user has no account.
func Groups(uid uint32) []uint32 {
	found, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return nil
	}
	var ids []uint32
	if id, ok := number(found.Gid); ok {
		ids = append(ids, id)
	}
	all, err := found.GroupIds()
	if err != nil {
		return ids // the first one is better than none
	}
	for _, text := range all {
		if id, ok := number(text); ok && (len(ids) == 0 || id != ids[0]) {
			ids = append(ids, id)
		}
	}
	return ids
}

// UserName returns a user's name, or the id as text.
func UserName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if found, err := user.LookupId(id); err == nil {
		return found.Username
	}
	return id
}

// GroupName returns a group's name, or the id as text.
func GroupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if found, err := user.LookupGroupId(id); err == nil {
		return found.Name
	}
	return id
}

// number reads an id. The largest one stands for "none" in the kernel.
func number(text string) (uint32, bool) {
	id, err := strconv.ParseUint(text, 10, 32)
	return uint32(id), err == nil && id != noID
}

func parse(kind, name, text string) (uint32, error) {
	id, ok := number(text)
	if !ok {
		return 0, fmt.Errorf("the %s %q has the id %q, which isn't a number", kind, name, text)
	}
	return id, nil
}

func unknown(kind, name string, err error) error {
	var noUser user.UnknownUserError
	var noGroup user.UnknownGroupError
	if errors.As(err, &noUser) || errors.As(err, &noGroup) {
		return fmt.Errorf("there's no %s %q on this host: create it, or give the numeric id", kind, name)
	}
	return fmt.Errorf("the %s %q can't be looked up: %w", kind, name, err)
}
