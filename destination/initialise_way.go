package destination

import (
	"rollcall/acl"
	"rollcall/failure"
)

// checkWay refuses a directory that the bot or a reader can't get to, and names
// the parent that is in the way. The directory itself gets its rights; what is
// there of its parents must have them. It also looks who could replace one.
func (p *InitPlan) checkWay(readers []acl.Entry) error {
	who := append([]traveller{asUser("the bot", p.opts.Bot.UID)}, travellers(readers)...)
	return p.dir.parents(len(p.missing) > 0, func(at *parent) error {
		for _, t := range who {
			if !at.stopped(t) {
				continue
			}
			return failure.New(failure.Configuration,
				"%s can't get to %s: %s (mode %04o, owner %s) doesn't let him through; run `setfacl -m %s:x %s`, or choose another directory",
				t.who, p.Path, at.path, at.st.Mode&0o777, acl.UserName(at.st.Uid), t.grant, at.path)
		}
		return p.checkReplaceable(at)
	})
}

// checkReplaceable looks who can replace what is in a parent, the directory or
// one on the way to it. They couldn't read what the bot writes, but could have
// the readers read something else. What everybody can do is refused.
func (p *InitPlan) checkReplaceable(at *parent) error {
	switch who := at.replaceable(p.opts.Bot.UID, p.opts.Owner.UID); who {
	case "":
	case exposedToAll:
		return failure.New(failure.Configuration,
			"everybody can write to %s, and so put something else in the place of %s: run `chmod o-w %s` (or `chmod +t`, if everybody is to write there), or choose another directory",
			at.path, p.Path, at.path)
	default:
		p.note("%s can be written by %s, who can put something else in the place of %s: if that isn't meant, give it to root with mode 0755, or choose another directory",
			at.path, who, p.Path)
	}
	return nil
}
