package destination

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/gravitational/trace"
	"golang.org/x/sys/unix"

	"rollcall/acl"
	"rollcall/failure"
)

// Account is a user and a group.
type Account struct {
	UID uint32
	// GID is a group, or KeepGroup.
	GID int
}

// KeepGroup leaves a directory's group as it is.
const KeepGroup = -1

// String returns "user:group" with the names that this host has for them.
func (a Account) String() string {
	if a.GID == KeepGroup {
		return acl.UserName(a.UID)
	}
	return acl.UserName(a.UID) + ":" + acl.GroupName(uint32(a.GID))
}

// InitOptions say how a directory is made ready before the agent runs.
type InitOptions struct {
	// Directory are the destination's options. Its readers go before Readers.
	Directory DirectoryOptions
	// Storage says that it's the bot's own storage: nobody else gets in, and
	// its files are the agent's affair.
	Storage bool
	// Bot is who runs the agent.
	Bot Account
	// Owner is whom the directory belongs to; the bot, but for files that are
	// replaced one by one.
	Owner Account
	// Readers are kept as the directory's default ACL. Empty: whoever is in it
	// stays.
	Readers []Reader
	// Known are the names that the output will write, and that Clean leaves.
	Known []string
	// Clean removes everything else.
	Clean bool
}

// InitPlan is what has to be done to a directory. Making it changes nothing.
type InitPlan struct {
	// Path is the directory.
	Path string
	// Changes say what Apply does, in order; none if all is as it should be.
	Changes []string
	// Notes say what the user should know.
	Notes []string
	// Readers are who will be able to read, by name: "user app".
	Readers []string

	opts    InitOptions
	dir     *Dir     // the directory, or the deepest parent that exists
	missing []string // the parts of the path below dir
	steps   []func() error
}

// PlanInit looks at a directory and its parents and says what has to be done.
// It refuses what can't work, with the reason. The plan must be closed.
func PlanInit(o InitOptions) (*InitPlan, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	p := &InitPlan{Path: filepath.Clean(o.Directory.Path), opts: o}
	if err := p.open(); err != nil {
		return nil, trace.Wrap(err)
	}
	if err := p.make(); err != nil {
		p.Close()
		return nil, explain(err, p.Path)
	}
	return p, nil
}

// Close gives the plan's descriptor back.
func (p *InitPlan) Close() {
	_ = p.dir.Close() // nothing was written through it
}

// Apply does what Changes say. What was done before an error stays: the next
// plan holds the rest. No agent writes to the directory meanwhile: ctx bounds the
// wait for one that does.
func (p *InitPlan) Apply(ctx context.Context) error {
	if len(p.steps) == 0 {
		return nil
	}
	lock, err := p.lock(ctx)
	if err != nil {
		return p.refused(err)
	}
	if lock != nil {
		defer lock.Close()
	}
	for _, step := range p.steps {
		if err := step(); err != nil {
			return p.refused(err)
		}
	}
	return nil
}

// lock takes the lock of the directory's writers, if there have been any, and
// looks if the plan is still right then. Without it an agent that is writing
// could find its files given away, or have a new one removed. The storage has
// another lock, and of it no more than its own owner and mode are changed.
func (p *InitPlan) lock(ctx context.Context) (*os.File, error) {
	if p.opts.Storage || len(p.missing) > 0 {
		return nil, nil
	}
	lock, err := p.dir.lockExisting(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	now, err := PlanInit(p.opts)
	if err == nil {
		defer now.Close()
		if !slices.Equal(now.Changes, p.Changes) {
			err = failure.New(failure.Configuration, "%s was written to while init looked at it: nothing was changed there; run it again", p.Path)
		}
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// refused says that it takes root, where that's the reason.
func (p *InitPlan) refused(err error) error {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return failure.Wrap(failure.Configuration, err,
			"%s can't be made ready by this user (id %d): %v; run `rollcall init` as root", p.Path, os.Geteuid(), err)
	}
	return explain(err, p.Path)
}

// check refuses what makes no sense on any host.
func (o *InitOptions) check() error {
	if err := o.Directory.Validate(); err != nil {
		return failure.Wrap(failure.Configuration, err, "%v", err)
	}
	if err := checkPlace(o.Directory.Path); err != nil {
		return err
	}
	d, path := o.Directory, o.Directory.Path
	foreign := o.Owner.UID != o.Bot.UID
	switch {
	case foreign && o.Storage:
		return failure.New(failure.Configuration, "the storage %s holds the bot's own key: it belongs to the bot and to nobody else", path)
	case foreign && d.Update == UpdateSet:
		return failure.New(failure.Configuration,
			"the owner %s of %s isn't the bot (%s): with `update: %s` the bot makes and removes directories there and keeps the rights exact, which only the owner can; leave --owner out, or use `update: %s` for that output",
			acl.UserName(o.Owner.UID), path, acl.UserName(o.Bot.UID), UpdateSet, UpdateFile)
	case foreign && o.Owner.UID != 0 && len(d.Readers) == 0:
		return failure.New(failure.Configuration,
			"the owner %s of %s could choose who reads the files there, unless the configuration says it: name the `readers` of that output, or leave --owner out",
			acl.UserName(o.Owner.UID), path)
	case d.ACLs == ACLOff && (foreign || len(o.Readers) > 0):
		return failure.New(failure.Configuration,
			"%s has `acls: %s`, so that nobody but its owner can get in: use `acls: %s` for that output, or leave out readers and --owner", path, ACLOff, ACLTry)
	}
	return nil
}

// open opens the directory, or what there is of the way to it. It follows no
// link, whatever the configuration says: init mostly runs as root, and whoever
// could place a link on the way would be given what it leads to.
func (p *InitPlan) open() error {
	r := resolver{openat2: unix.Openat2}
	for at := p.Path; ; at = filepath.Dir(at) {
		fd, err := r.open(at, SymlinksTrySecure)
		switch {
		case err == nil:
			p.dir = &Dir{fd: fd, path: at, perms: ownerOnly{}}
			return nil
		case errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at):
			p.missing = append([]string{filepath.Base(at)}, p.missing...)
		case errors.Is(err, fs.ErrPermission):
			return p.refused(&fs.PathError{Op: "open", Path: at, Err: err})
		case firstLink(at) != "" && (errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR)):
			return failure.Wrap(failure.Configuration, err,
				"the directory %s is refused: %s is a symbolic link, and init follows none, whatever `symlinks` says; give the real path", at, firstLink(at))
		default:
			return unresolved(at, SymlinksTrySecure, err)
		}
	}
}

func (p *InitPlan) add(do func() error, format string, args ...any) {
	p.steps = append(p.steps, do)
	p.Changes = append(p.Changes, fmt.Sprintf(format, args...))
}

func (p *InitPlan) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

func (p *InitPlan) make() error {
	want, err := p.wanted()
	if err != nil {
		return err
	}
	if err := p.checkWay(want.readers); err != nil {
		return err
	}
	st, err := fstat(p.dir.fd)
	if err != nil {
		return p.dir.fail("stat", "", err)
	}
	exists := len(p.missing) == 0
	if !exists {
		p.planMissing()
		st.Uid, st.Gid, st.Mode = uint32(os.Geteuid()), uint32(os.Getegid()), dirMode
	}
	if err := p.mayChown(st); err != nil {
		return err
	}
	if err := p.planLists(want, st, exists); err != nil {
		return err
	}
	if exists {
		if err := p.planContent(st); err != nil {
			return err
		}
	}
	p.planOwner(want, st, exists)
	return nil
}

// planMissing makes what is missing: parents with mode 0755, since readers have
// to get through, and the directory with 0700, until it has its ACL.
func (p *InitPlan) planMissing() {
	at := p.dir.path
	for i, name := range p.missing {
		at = filepath.Join(at, name)
		last := i == len(p.missing)-1
		mode := uint32(0o755)
		if last {
			mode = dirMode
		}
		p.add(func() error { return p.descend(name, mode, last) }, "create %s with mode %04o", at, mode)
	}
}

// descend makes a directory in p.dir and goes on there.
func (p *InitPlan) descend(name string, mode uint32, last bool) error {
	err := unix.Mkdirat(p.dir.fd, name, dirMode)
	made := err == nil
	if err != nil && (last || !errors.Is(err, fs.ErrExist)) {
		return p.dir.fail("mkdir", name, err)
	}
	sub, err := p.dir.sub(name)
	if err != nil {
		return err
	}
	_ = p.dir.Close()
	p.dir = sub
	if !made {
		return nil // another destination's parent, too
	}
	if st, err := fstat(sub.fd); err != nil || int(st.Uid) != os.Geteuid() {
		return errors.Join(err, planted(sub.path, "was put in the place of a new directory"))
	}
	// A default ACL of the parent would pass rights on.
	if err := disinherit(sub.fd); err != nil {
		return sub.fail("set permissions of", "", err)
	}
	return sub.fail("chmod", "", setMode(sub.fd, mode))
}

// owner is whom the directory belongs to afterwards.
func (p *InitPlan) owner(st unix.Stat_t) Account {
	owner := p.opts.Owner
	if owner.GID == KeepGroup {
		owner.GID = int(st.Gid)
	}
	return owner
}

// mayChown refuses what only root can do.
func (p *InitPlan) mayChown(st unix.Stat_t) error {
	owner := p.opts.Owner
	if st.Uid == owner.UID || os.Geteuid() == 0 {
		return nil
	}
	return failure.New(failure.Configuration,
		"%s must belong to %s, and only root can give it away: run `rollcall init` as root (this is user id %d)", p.Path, acl.UserName(owner.UID), os.Geteuid())
}

// planOwner gives the directory away, last of all: who has it could put other
// files in the place of those that are handed over or removed before. Until then
// the earlier owner could set its rights anew, so they're proved afterwards.
func (p *InitPlan) planOwner(want wantedLists, st unix.Stat_t, exists bool) {
	owner := p.owner(st)
	if st.Uid == owner.UID && int(st.Gid) == owner.GID {
		return
	}
	was := ""
	if exists {
		was = fmt.Sprintf(" (was %s)", Account{st.Uid, int(st.Gid)})
	}
	p.add(func() error {
		if err := unix.Fchown(p.dir.fd, int(owner.UID), owner.GID); err != nil {
			return p.ownerless(st, err)
		}
		return p.dir.fail("set permissions of", "", want.restore(p.dir.fd))
	}, "give %s to %s%s", p.Path, owner, was)
}

// ownerless explains why root can't give something away.
func (p *InitPlan) ownerless(st unix.Stat_t, err error) error {
	if os.Geteuid() != 0 || !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EOPNOTSUPP) {
		return p.dir.fail("chown", "", err)
	}
	return failure.Wrap(failure.Configuration, err,
		"the file system of %s keeps no owners (or this root isn't allowed to change them): all that is there belongs to %s; run the agent as that user, mount the file system with uid=%d, or choose another directory",
		p.Path, acl.UserName(st.Uid), p.opts.Owner.UID)
}
