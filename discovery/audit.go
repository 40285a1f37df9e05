package discovery

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"rollcall/diagnostics"
	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
)

// Entry is one write, for the audit: what, for whom, why, and what came of it.
type Entry struct {
	Service  string
	Op       plan.Op
	Key      resource.Key
	Owner    string
	Workload string
	Reason   string
	// Changes are what was to become different; secrets are hashes.
	Changes []resource.Change
	// Outcome is one word: ok, already, changed, conflict, refused,
	// unreachable, lease_lost, failed.
	Outcome string
	// Detail says more of an outcome that is no error.
	Detail string
	Err    error
	Took   time.Duration
}

// Auditor takes one entry for each write. It's safe for concurrent use.
type Auditor interface {
	Audit(ctx context.Context, e Entry)
}

// LogAuditor writes each entry as one line.
type LogAuditor struct{ log *slog.Logger }

// NewLogAuditor returns an auditor that writes to a log.
func NewLogAuditor(log *slog.Logger) *LogAuditor { return &LogAuditor{log: log} }

// auditMessage is every line's message, to search for.
const auditMessage = "Registration changed."

// Audit writes one line: at level info if it worked, else at level warn.
func (l *LogAuditor) Audit(ctx context.Context, e Entry) {
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String(diagnostics.KeyService, e.Service),
		slog.String("op", string(e.Op)),
		slog.String("kind", string(e.Key.Kind)),
		slog.String("name", e.Key.Name),
		slog.String("owner", e.Owner),
		slog.String("workload", e.Workload),
		slog.String("reason", e.Reason),
		slog.Any("changes", changes(e.Changes)),
		slog.String("outcome", e.Outcome),
		slog.Duration("took", e.Took.Round(time.Millisecond)),
	}
	if e.Detail != "" {
		attrs = append(attrs, slog.String("detail", e.Detail))
	}
	message := auditMessage
	if e.Outcome != wordOK {
		message = "Registration not changed."
	}
	if e.Err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.Any(diagnostics.KeyErr, e.Err))
	}
	l.log.LogAttrs(ctx, level, message, attrs...)
}

// changes are shown as text in a text log and as objects in a JSON one.
type changes []resource.Change

// String joins the changes.
func (c changes) String() string {
	text := ""
	for i, change := range c {
		if i > 0 {
			text += "; "
		}
		text += change.String()
	}
	return text
}

type noAuditor struct{}

func (noAuditor) Audit(context.Context, Entry) {}

func isLost(err error) bool { return errors.Is(err, errLost) }
