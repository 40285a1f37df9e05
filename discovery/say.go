package discovery

import (
	"context"
	"fmt"
	"strings"
	"time"

	"rollcall/diagnostics"
	"rollcall/discovery/plan"
	"rollcall/failure"
)

// said is what was last said, so that only news are.
type said struct {
	// once is true after the first completed comparison.
	once      bool
	failure   string
	repeats   int
	troubles  string
	lastGood  time.Time
	unsettled unsettled
}

// say logs and reports what a cycle came to.
func (r *Reconciler) say(ctx context.Context, p plan.Plan, result Result, err error, took time.Duration) {
	next := r.schedule.next()
	if err != nil {
		r.said.unsettled = unsettled{} // what fails is told as that
		r.sayFailed(ctx, err, next)
		r.report(diagnostics.Report{Err: err, Next: next, Took: took, Detail: r.failedDetail(err)})
		return
	}
	if r.said.failure != "" {
		r.log.InfoContext(ctx, "The source and the cluster can be reached again.", "failed_attempts", r.said.repeats)
		r.said.failure, r.said.repeats = "", 0
	}
	r.said.lastGood = time.Now()
	r.failing.Store(&result.Failures)
	frozen := ""
	if p.Budget.Frozen {
		frozen = p.Hash()
	}
	r.frozen.Store(&frozen)
	r.settling.Store(&settling{waits: p.Settling, until: p.Settles})
	r.sayTroubles(ctx, p, result)
	r.opts.Metrics.applied(r.opts.Name, p, result, len(r.pending()), r.said.lastGood)
	done := diagnostics.Report{Next: next, Took: took, Detail: r.detail(p, result)}
	trouble := problem(p, result)
	if never := r.neverSettles(ctx); trouble == nil {
		trouble = never
	}
	if trouble == nil {
		r.said.once = true
		r.report(done)
		return
	}
	if !r.said.once {
		// The service works, although not everything does: ready, degraded.
		r.said.once = true
		r.report(done)
	}
	r.report(diagnostics.Report{Err: trouble, Next: next, Took: took, Detail: trouble.Error() + " (" + done.Detail + ")"})
}

// sayFailed logs a failure: at once if it's a new one, else now and then.
func (r *Reconciler) sayFailed(ctx context.Context, err error, next time.Time) {
	if err.Error() != r.said.failure {
		r.said.failure, r.said.repeats = err.Error(), 0
	}
	r.said.repeats++
	n := r.said.repeats
	log := r.log.DebugContext
	if n == 1 || n >= 8 && n&(n-1) == 0 {
		log = r.log.WarnContext
	}
	log(ctx, "Reconciling failed; what is registered stays as it is.", diagnostics.KeyErr, err, "kind", failure.KindOf(err).String(),
		"retry_in", time.Until(next).Round(time.Millisecond), "repeated", n)
}

func (r *Reconciler) failedDetail(err error) string {
	if r.said.lastGood.IsZero() {
		return err.Error()
	}
	return fmt.Sprintf("%s (last good comparison: %s)", err, r.said.lastGood.UTC().Format(time.RFC3339))
}

// sayTroubles tells of conflicts and of what is blocked, once.
func (r *Reconciler) sayTroubles(ctx context.Context, p plan.Plan, result Result) {
	var told strings.Builder
	troubles := p.Troubles()
	for _, a := range troubles {
		if a.BlockedBy != plan.GateBudget || a.Alarms() {
			fmt.Fprintf(&told, "%s %s %s %s\n", a.Op, a.Key, a.Workload, a.Reason)
		}
	}
	for _, f := range result.Failures {
		fmt.Fprintf(&told, "%s %s %s\n", f.Op, f.Key, f.Err)
	}
	if p.Budget.Frozen {
		told.WriteString("frozen " + p.Hash())
	}
	if told.String() == r.said.troubles {
		return
	}
	r.said.troubles = told.String()
	for _, a := range troubles {
		if a.Misleads != "" {
			r.log.ErrorContext(ctx, "Users of a resource reach another workload.", "kind", string(a.Key.Kind), "name", a.Key.Name,
				"workload", a.Workload, "reached", a.Misleads, "reason", a.Reason)
			continue
		}
		if a.Shares != "" {
			r.log.ErrorContext(ctx, "Users of a resource may reach another: both are registered with one public address.", "kind", string(a.Key.Kind),
				"name", a.Key.Name, "workload", a.Workload, "other", a.Shares, "reason", a.Reason)
			continue
		}
		if a.BlockedBy == plan.GateBudget {
			continue
		}
		text := "A workload can't be registered as it asks."
		if a.Holds {
			text = "What a workload has registered is asked for by another; it stays."
		}
		r.log.WarnContext(ctx, text, "op", string(a.Op), "kind", string(a.Key.Kind),
			"name", a.Key.Name, "workload", a.Workload, "reason", a.Reason)
	}
	for _, f := range result.Failures {
		r.log.WarnContext(ctx, "A resource can't be written; it's tried again later.", "op", string(f.Op), "kind", string(f.Key.Kind),
			"name", f.Key.Name, diagnostics.KeyErr, f.Err)
	}
	if p.Budget.Frozen {
		r.log.ErrorContext(ctx, "Deletions are frozen until somebody approves them.", "plan", p.Hash(),
			"asked", p.Budget.Asked, "used", p.Budget.Used, "limit", p.Budget.Limit, "approve_with", r.approveCommand(p))
	}
}

// approveCommand is what ends the alarm.
func (r *Reconciler) approveCommand(p plan.Plan) string {
	return fmt.Sprintf("rollcall discovery apply --service %s --acknowledge %s", r.opts.Name, p.Hash())
}

// problem returns what a person has to see to; conflicts aren't among it, since
// they are of the workloads' making and stand in the detail.
func problem(p plan.Plan, result Result) error {
	if p.Budget.Frozen {
		return failure.New(failure.Refused, "%d deletions are frozen: more than %d of %d in an hour; approve plan %s if they're right",
			p.Budget.Asked, p.Budget.Limit, p.Budget.Base, p.Hash())
	}
	for i := range p.Actions {
		a := &p.Actions[i]
		if !a.Alarms() {
			continue
		}
		reach := "reach another workload"
		if a.Misleads == "" {
			reach = "may reach another's"
		}
		return failure.New(failure.Conflict, "users of %d resources %s; the first, %s: %s", p.Misleading(), reach, a.Key, a.Reason)
	}
	var failures []Failure
	for _, f := range result.Failures {
		if failure.KindOf(f.Err) != failure.Conflict {
			failures = append(failures, f)
		}
	}
	if n := len(failures); n > 0 {
		first := failures[0]
		return failure.Wrap(failure.KindOf(first.Err), first.Err, "%d of %d resources can't be written; the first, %s: %s",
			n, max(p.Wanted, n), first.Key, first.Err)
	}
	return nil
}

// taken returns the workloads whose name turned out to be taken when it was to
// be made.
func (s Result) taken() []Failure {
	var taken []Failure
	for _, f := range s.Failures {
		if failure.KindOf(f.Err) == failure.Conflict {
			taken = append(taken, f)
		}
	}
	return taken
}

// detail is the service's state in one sentence.
func (r *Reconciler) detail(p plan.Plan, result Result) string {
	joining, away := 0, 0
	for _, yet := range r.pending() {
		if yet {
			joining++
		} else {
			away++
		}
	}
	text := fmt.Sprintf("%d workloads, %d registered", p.Wanted, p.Owned+result.Created-result.Deleted-joining-away)
	if joining > 0 {
		text += fmt.Sprintf(", %d whose agent hasn't registered yet", joining)
	}
	if away > 0 {
		text += fmt.Sprintf(", %d whose agent is away", away)
	}
	taken := result.taken()
	if n := p.Conflicts() + len(taken); n > 0 {
		text += fmt.Sprintf(", %d in conflict", n)
	}
	unreadable, waiting, following := 0, 0, 0
	for i := range p.Actions {
		switch a := &p.Actions[i]; {
		case a.BlockedBy == plan.GateWorkload:
			unreadable++
		case a.Waiting && a.After != nil:
			following++
		case a.Waiting:
			waiting++
		}
	}
	if unreadable > 0 {
		text += fmt.Sprintf(", %d that can't be read", unreadable)
	}
	if waiting > 0 {
		when := "soon"
		if p.Settling {
			when = "once the source has settled"
		}
		text += fmt.Sprintf(", %d to be deleted %s", waiting, when)
	}
	if following > 0 {
		text += fmt.Sprintf(", %d that wait for a name or an address", following)
	}
	if troubles := p.Troubles(); len(troubles) > 0 {
		text += "; " + troubles[0].Reason
	} else if len(taken) > 0 {
		text += "; " + taken[0].Err.Error()
	}
	return text
}
