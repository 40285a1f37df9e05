package discovery

import (
	"encoding/json"
	"log/slog"
	"slices"
	"time"

	"github.com/gravitational/trace"

	"rollcall/diagnostics"
	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
)

// StateStore keeps what has to survive a restart of one service.
type StateStore interface {
	// Load returns what was saved last; nil: nothing was.
	Load() ([]byte, error)
	// Save replaces it, whole and durable.
	Save(data []byte) error
	// TakeApprovals returns the hashes of plans whose deletions a person
	// approved since the last call, and forgets them.
	TakeApprovals() ([]string, error)
}

// history is the deletion budget's memory. Deletions are written down before
// they're begun, so that neither a crash nor a restart gives any of the budget
// back.
type history struct {
	store  StateStore
	loaded bool
	plan.History
	// before is Deleted as it was before the last begin.
	before []plan.Deletion
	// approvals are hashes that no plan had so far.
	approvals []string
}

// load reads the memory, and notes from when on it's complete. An error means
// that what happened before isn't known; the history can be used all the same.
func (h *history) load(now time.Time, shared bool) error {
	known, err := true, error(nil)
	switch {
	case h.store == nil:
		known = h.loaded // our own memory, while the process lives
	case !h.loaded:
		h.History, err = read(h.store)
		known = err == nil
	}
	h.loaded = true
	if shared || !known {
		h.Since = now.UTC()
	}
	return trace.Wrap(err)
}

// first takes note of how many resources were ours at the first look. Where there
// were none, nothing is left that others may have begun to delete: the unknown
// hour doesn't matter to what we make ourselves.
func (h *history) first(owned int) {
	if owned == 0 {
		h.Since = time.Time{}
	}
}

func read(store StateStore) (plan.History, error) {
	data, err := store.Load()
	if err != nil || data == nil {
		return plan.History{}, trace.Wrap(err)
	}
	var h plan.History
	if err := json.Unmarshal(data, &h); err != nil {
		return plan.History{}, trace.Wrap(err, "the service's state is damaged")
	}
	return h, nil
}

// save makes a history durable and then current.
func (h *history) save(next plan.History) error {
	if h.store != nil {
		data, err := json.Marshal(next)
		if err != nil {
			return trace.Wrap(err)
		}
		if err := h.store.Save(data); err != nil {
			return trace.Wrap(err)
		}
	}
	h.History = next
	return nil
}

// settle takes over what a plan from a good read says of the alarm. Only a
// change is written.
func (h *history) settle(p plan.Plan, now time.Time) error {
	next := h.Settle(p, now)
	if next.Frozen.Equal(h.Frozen) && len(next.Acknowledged) == len(h.Acknowledged) {
		return nil
	}
	if h.Frozen.IsZero() && h.store != nil {
		// Whoever approved something before there was an alarm can't have meant
		// this one.
		if _, err := h.store.TakeApprovals(); err != nil {
			return trace.Wrap(err)
		}
	}
	return h.save(next)
}

// begin writes down the deletions that are about to be done.
func (h *history) begin(now time.Time, deletions []plan.Action) error {
	keys := make([]resource.Key, len(deletions))
	for i := range deletions {
		keys[i] = deletions[i].Key
	}
	h.before = h.Deleted
	next := h.Begin(now, keys)
	if slices.Equal(next.Deleted, h.Deleted) {
		return nil // all of them are approved
	}
	return h.save(next)
}

// refund takes back what begin wrote down for deletions that weren't even
// tried. An error is no harm: the budget is then smaller than it need be.
func (h *history) refund(untried []plan.Action) error {
	back := map[resource.Key]bool{}
	for i := range untried {
		back[untried[i].Key] = true
	}
	for _, d := range h.before {
		delete(back, d.Key)
	}
	next := h.History
	next.Deleted = slices.DeleteFunc(slices.Clone(h.Deleted), func(d plan.Deletion) bool { return back[d.Key] })
	if len(next.Deleted) == len(h.Deleted) {
		return nil
	}
	return h.save(next)
}

// frozen says whether deletions are stopped.
func (h *history) frozen() bool { return !h.Frozen.IsZero() }

// approved looks for approvals and says whether there are any.
func (h *history) approved(log *slog.Logger) bool {
	if h.store == nil {
		return len(h.approvals) > 0
	}
	hashes, err := h.store.TakeApprovals()
	if err != nil {
		log.Warn("Approvals of deletions can't be read.", diagnostics.KeyErr, err)
	}
	h.approvals = append(h.approvals, hashes...)
	return len(h.approvals) > 0
}

// approve ends the alarm if a person approved this plan's deletions, and says
// whether that was so. Approvals of other plans are used up: who approves has
// to have seen what is deleted.
func (h *history) approve(p plan.Plan, log *slog.Logger) (bool, error) {
	if !p.Budget.Frozen || !h.approved(log) {
		return false, nil
	}
	hashes := h.approvals
	h.approvals = nil
	for _, hash := range hashes {
		next, meant := h.Acknowledge(p, hash)
		if !meant {
			continue
		}
		if err := h.save(next); err != nil {
			return false, trace.Wrap(err)
		}
		log.Info("Deletions were approved.", "plan", hash, "deletions", len(h.Acknowledged))
		return true, nil
	}
	log.Warn("An approval of deletions is for another plan than the one that waits.", "approved", hashes, "waiting", p.Hash())
	return false, nil
}
