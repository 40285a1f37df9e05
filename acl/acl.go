// Package acl knows POSIX access control lists: their form in an extended
// attribute, what they permit, and how they're read and set through a
// descriptor. It doesn't know whose files they protect, or why.
//
// No library is used, since those that exist need cgo or work by path, and a
// path can lead elsewhere between two calls.
package acl

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Tag says whom an entry is for.
type Tag uint16

// The tags, in the kernel's order and with its values.
const (
	Owner      Tag = 0x01 // the file's owner
	User       Tag = 0x02 // a named user
	OwnerGroup Tag = 0x04 // the file's group
	Group      Tag = 0x08 // a named group
	Mask       Tag = 0x10 // the most that User, OwnerGroup and Group can give
	Other      Tag = 0x20 // everybody else
)

// Perm is a set of rights.
type Perm uint16

// The rights, with the values of mode bits.
const (
	Execute Perm = 1
	Write   Perm = 2
	Read    Perm = 4
)

// String returns the rights as ls does: "r-x".
func (p Perm) String() string {
	text := []byte("---")
	for i, c := range []byte("rwx") {
		if p&(Read>>i) != 0 {
			text[i] = c
		}
	}
	return string(text)
}

// noID is the id of entries that have none.
const noID = 0xffffffff

// Entry gives somebody rights.
type Entry struct {
	Tag  Tag
	Perm Perm
	// ID is a user's or a group's id, for the tags User and Group.
	ID uint32
}

// named says that the entry has an id.
func (e Entry) named() bool { return e.Tag == User || e.Tag == Group }

// String returns the entry as `getfacl --numeric` prints it: "user:998:r--".
func (e Entry) String() string {
	id := ""
	if e.named() {
		id = fmt.Sprint(e.ID)
	}
	return e.text(id)
}

func (e Entry) text(id string) string {
	kind := map[Tag]string{Owner: "user", User: "user", OwnerGroup: "group", Group: "group", Mask: "mask", Other: "other"}[e.Tag]
	return fmt.Sprintf("%s:%s:%s", kind, id, e.Perm)
}

// ACL is a list of entries in the kernel's order: New and Decode return no
// other. Nil means that there's no list.
type ACL []Entry

// New returns a list for an owner and for named users and groups, and for
// nobody else: the file's group and all others get nothing. The mask is what
// the named ones have together; a list without any has none.
func New(owner Perm, named ...Entry) ACL {
	a := ACL{{Tag: Owner, Perm: owner}, {Tag: OwnerGroup}, {Tag: Other}}
	var mask Perm
	for _, e := range named {
		mask |= e.Perm
		a = append(a, e)
	}
	if len(named) > 0 {
		a = append(a, Entry{Tag: Mask, Perm: mask})
	}
	a.sort()
	return slices.Compact(a)
}

func (a ACL) sort() {
	slices.SortFunc(a, func(x, y Entry) int {
		return cmp.Or(cmp.Compare(x.Tag, y.Tag), cmp.Compare(x.ID, y.ID))
	})
}

// Equal says that two lists are the same, mask included.
func (a ACL) Equal(b ACL) bool { return slices.Equal(a, b) }

// Named returns the entries of users and groups that have ids.
func (a ACL) Named() []Entry {
	var named []Entry
	for _, e := range a {
		if e.named() {
			named = append(named, e)
		}
	}
	return named
}

// Limit returns the most that named entries can give: the mask, or everything if
// there's none.
func (a ACL) Limit() Perm {
	if e, ok := a.find(Mask, 0); ok {
		return e.Perm
	}
	return Read | Write | Execute
}

// Mode returns the nine mode bits that a file with the list shows. The group's
// are the mask's if there's one, which is why chmod changes the mask.
func (a ACL) Mode() uint32 {
	owner, _ := a.find(Owner, 0)
	group, _ := a.find(OwnerGroup, 0)
	if mask, ok := a.find(Mask, 0); ok {
		group = mask
	}
	other, _ := a.find(Other, 0)
	return uint32(owner.Perm)<<6 | uint32(group.Perm)<<3 | uint32(other.Perm)
}

// FromMode returns the list that says the same as nine mode bits.
func FromMode(mode uint32) ACL {
	return ACL{
		{Tag: Owner, Perm: Perm(mode >> 6 & 7)},
		{Tag: OwnerGroup, Perm: Perm(mode >> 3 & 7)},
		{Tag: Other, Perm: Perm(mode & 7)},
	}
}

func (a ACL) find(tag Tag, id uint32) (Entry, bool) {
	for _, e := range a {
		if e.Tag == tag && (e.ID == id || !e.named()) {
			return e, true
		}
	}
	return Entry{}, false
}

// Subject is somebody who wants something: a process's ids.
type Subject struct {
	UID  uint32
	GIDs []uint32
}

// Permits says if somebody has all of want on a file of this owner and group, as
// the kernel decides for a process without capabilities.
func (a ACL) Permits(who Subject, owner, group uint32, want Perm) bool {
	if who.UID == owner {
		e, _ := a.find(Owner, 0)
		return e.Perm&want == want
	}
	if e, ok := a.find(User, who.UID); ok {
		return e.Perm&a.Limit()&want == want
	}
	// One group that gives everything is enough; any that matches keeps the
	// rest from being asked.
	matched := false
	for _, e := range a {
		match := e.Tag == OwnerGroup && slices.Contains(who.GIDs, group) || e.Tag == Group && slices.Contains(who.GIDs, e.ID)
		if match && e.Perm&a.Limit()&want == want {
			return true
		}
		matched = matched || match
	}
	if matched {
		return false
	}
	e, _ := a.find(Other, 0)
	return e.Perm&want == want
}

// String returns the entries as `getfacl --numeric` prints them, with commas
// between, as setfacl takes them.
func (a ACL) String() string {
	parts := make([]string, len(a))
	for i, e := range a {
		parts[i] = e.String()
	}
	return strings.Join(parts, ",")
}

// Names is String with the names that this host has for the ids.
func (a ACL) Names() string {
	parts := make([]string, len(a))
	for i, e := range a {
		switch e.Tag {
		case User:
			parts[i] = e.text(UserName(e.ID))
		case Group:
			parts[i] = e.text(GroupName(e.ID))
		default:
			parts[i] = e.String()
		}
	}
	return strings.Join(parts, ",")
}

const (
	version   = 2
	entrySize = 8
)

// ErrMalformed is in the chain of Decode's errors.
var ErrMalformed = errors.New("malformed access control list")

// Encode returns the list as the value of an extended attribute.
func (a ACL) Encode() []byte {
	data := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+entrySize*len(a)), version)
	for _, e := range a {
		id := uint32(noID)
		if e.named() {
			id = e.ID
		}
		data = binary.LittleEndian.AppendUint16(data, uint16(e.Tag))
		data = binary.LittleEndian.AppendUint16(data, uint16(e.Perm))
		data = binary.LittleEndian.AppendUint32(data, id)
	}
	return data
}

// Decode reads the value of an extended attribute.
func Decode(data []byte) (ACL, error) {
	if len(data) < 4 || (len(data)-4)%entrySize != 0 {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(data))
	}
	if v := binary.LittleEndian.Uint32(data); v != version {
		return nil, fmt.Errorf("%w: version %d", ErrMalformed, v)
	}
	var a ACL
	for rest := data[4:]; len(rest) > 0; rest = rest[entrySize:] {
		e := Entry{Tag: Tag(binary.LittleEndian.Uint16(rest)), Perm: Perm(binary.LittleEndian.Uint16(rest[2:]))}
		if e.named() {
			e.ID = binary.LittleEndian.Uint32(rest[4:])
		}
		a = append(a, e)
	}
	a.sort()
	return a, a.check()
}

// check refuses what the kernel would: an unknown tag or right, an entry that is
// there twice, a list that lacks one of the three that each has, or the mask.
func (a ACL) check() error {
	seen := make(map[Tag]int)
	for i, e := range a {
		switch e.Tag {
		case Owner, User, OwnerGroup, Group, Mask, Other:
		default:
			return fmt.Errorf("%w: unknown tag %#x", ErrMalformed, uint16(e.Tag))
		}
		if e.Perm > Read|Write|Execute {
			return fmt.Errorf("%w: unknown rights %#x", ErrMalformed, uint16(e.Perm))
		}
		if i > 0 && a[i-1].Tag == e.Tag && a[i-1].ID == e.ID {
			return fmt.Errorf("%w: %v is there twice", ErrMalformed, e)
		}
		seen[e.Tag]++
	}
	if seen[Owner] != 1 || seen[OwnerGroup] != 1 || seen[Other] != 1 {
		return fmt.Errorf("%w: owner, group or other is missing", ErrMalformed)
	}
	if seen[User]+seen[Group] > 0 && seen[Mask] == 0 {
		return fmt.Errorf("%w: the mask is missing", ErrMalformed)
	}
	return nil
}
