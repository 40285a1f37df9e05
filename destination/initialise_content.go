package destination

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rollcall/acl"
	"rollcall/failure"
)

// planContent looks at what is in the directory already.
func (p *InitPlan) planContent(st unix.Stat_t) error {
	names, err := p.dir.Names()
	if err != nil {
		return err
	}
	slices.Sort(names)
	if p.opts.Storage {
		return p.planStorage(names)
	}
	if p.opts.Clean {
		if err := p.checkClean(names); err != nil {
			return err
		}
	}
	manifest, err := readManifest(p.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !p.opts.Clean {
		return err
	}
	known := tops(union(p.opts.Known, manifest))
	for _, name := range names {
		k, err := p.dir.kind(name)
		if err != nil {
			return err
		}
		_, expected := known[name]
		switch {
		case k == absent:
		case k == ours, p.ownName(name, k), expected && (k == regular || k == folder):
			if err := p.planHandOver(name, k, st); err != nil {
				return err
			}
		case p.opts.Clean:
			p.add(func() error { return p.dir.removeTree(name) }, "remove %s, which isn't rollcall's", p.dir.join(name))
		case expected, name == dataName, name == lockName, name == manifestName, name == grantedName:
			return failure.New(failure.Configuration,
				"%s is in the way: rollcall needs that name, and didn't make what is there; nothing was written through it; find out who did, and remove it", p.dir.join(name))
		default:
			p.note("%s isn't rollcall's; it's left alone (--clean removes it)", p.dir.join(name))
		}
	}
	return nil
}

// ownName says that a name is one that this package uses itself, and holds what
// it must.
func (p *InitPlan) ownName(name string, k kind) bool {
	switch {
	case name == dataName:
		_, err := p.dir.current()
		return err == nil
	case name == lockName, name == manifestName, name == grantedName:
		return k == regular
	case strings.HasPrefix(name, tempPrefix):
		return true
	}
	return versionPattern.MatchString(name) && k == folder
}

// planHandOver gives what an earlier owner of the directory wrote there to the
// bot, which couldn't replace it otherwise. Nothing else changes hands: whoever
// may write to a directory can put another's file into it.
func (p *InitPlan) planHandOver(name string, k kind, st unix.Stat_t) error {
	if k != regular && k != folder {
		return nil
	}
	var found unix.Stat_t
	if err := unix.Fstatat(p.dir.fd, name, &found, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return p.dir.fail("stat", name, err)
	}
	bot := p.opts.Bot.UID
	switch {
	case found.Uid == bot:
	case st.Uid != bot && found.Uid == st.Uid && st.Uid != p.opts.Owner.UID:
		pinned, err := p.dir.pin(name)
		if errors.Is(err, unix.EXDEV) {
			p.note("%s is a mount point, and stays %s's", p.dir.join(name), acl.UserName(found.Uid))
			return nil
		}
		if err != nil {
			return err
		}
		p.add(func() error { return p.dir.handOver(pinned, found.Uid, p.opts.Bot) },
			"give %s to %s (was %s's)", p.dir.join(name), acl.UserName(bot), acl.UserName(found.Uid))
	case p.opts.Directory.Update == UpdateInPlace && k == regular:
		// Whose file it is, is the user's affair there.
	default:
		p.note("%s belongs to %s, and not to the bot (%s): remove it, or give it to the bot with chown", p.dir.join(name), acl.UserName(found.Uid), acl.UserName(bot))
	}
	return nil
}

// pinned is a file or directory as the plan found it.
type pinned struct {
	name     string
	dev, ino uint64
	below    []pinned
}

// pin notes what there is, so that nothing else is handed over. What
// goes away meanwhile is left out, and so is what is mounted below.
func (d *Dir) pin(name string) (pinned, error) {
	f, st, err := d.openHere(name)
	if err != nil {
		return pinned{name: name}, err
	}
	defer f.Close()
	p := pinned{name: name, dev: st.Dev, ino: st.Ino}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return p, nil
	}
	sub := &Dir{fd: int(f.Fd()), path: d.join(name)} // f closes it
	names, err := sub.Names()
	if err != nil {
		return p, err
	}
	for _, n := range names {
		below, err := sub.pin(n)
		if left(err) {
			continue
		}
		if err != nil {
			return p, err
		}
		p.below = append(p.below, below)
	}
	return p, nil
}

// left says that there's nothing to hand over: what isn't there any more, a link
// (nobody's secret), a socket, or what is mounted.
func left(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EXDEV)
}

// openHere opens a file or directory, but neither a link nor what is mounted
// there (EXDEV).
func (d *Dir) openHere(name string) (*os.File, unix.Stat_t, error) {
	f, err := d.openOnMount(name, readFlags)
	if err != nil {
		return nil, unix.Stat_t{}, err
	}
	st, err := fstat(int(f.Fd()))
	if err != nil {
		f.Close()
		return nil, st, d.fail("stat", name, err)
	}
	return f, st, nil
}

// handOver changes the owner of a file or directory, and of what is in it, as far
// as the plan saw it, it belongs to from, and it has no second name. What is in
// another's place is refused.
func (d *Dir) handOver(p pinned, from uint32, to Account) error {
	f, st, err := d.openHere(p.name)
	if left(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if st.Dev != p.dev || st.Ino != p.ino {
		return failure.New(failure.Configuration,
			"%s isn't what it was a moment ago: somebody writes to the directory; stop the agent, and run `rollcall init` again", d.join(p.name))
	}
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if st.Uid != from || !dir && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1) {
		return nil
	}
	sub := &Dir{fd: int(f.Fd()), path: d.join(p.name)} // f closes it
	for _, below := range p.below {
		if err := sub.handOver(below, from, to); err != nil {
			return err
		}
	}
	return d.fail("chown", p.name, unix.Fchown(int(f.Fd()), int(to.UID), to.GID))
}

// planStorage tells of files that the bot won't be able to use: they're keys, and
// whose they are isn't guessed.
func (p *InitPlan) planStorage(names []string) error {
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(p.dir.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return p.dir.fail("stat", name, err)
		}
		if st.Uid != p.opts.Bot.UID {
			p.note("%s belongs to %s, so that the bot (%s) can't use it: give it to the bot with chown, if it's the bot's",
				p.dir.join(name), acl.UserName(st.Uid), acl.UserName(p.opts.Bot.UID))
		}
	}
	return nil
}
