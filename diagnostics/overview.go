package diagnostics

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gravitational/trace"

	"rollcall/internal/oneline"
)

// Agent says who the agent is. It's part of /status.
type Agent struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	// Config is the configuration's file; empty: flags only.
	Config string `json:"config,omitempty"`
	// Storage describes where the bot keeps its identity.
	Storage    string `json:"storage"`
	JoinMethod string `json:"join_method"`
	// Bot is absent until the bot has an identity.
	Bot *Bot `json:"bot,omitempty"`
}

// Bot is the bot's identity, without its secrets.
type Bot struct {
	Name    string `json:"name"`
	Cluster string `json:"cluster"`
	// Generation is the count of renewals that the cluster keeps; 0 where the
	// join method has none.
	Generation uint64    `json:"generation"`
	NotAfter   time.Time `json:"not_after"`
}

// Overview is the answer of /status. Its JSON names don't change.
type Overview struct {
	Agent
	// Healthy is true if nothing needs attention.
	Healthy  bool     `json:"healthy"`
	Services []Status `json:"services"`
}

// WriteText writes the overview for people. now is what the times left are
// counted from.
func (o Overview) WriteText(w io.Writer, now time.Time) error {
	var text strings.Builder
	o.writeAgent(&text, now)
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tKIND\tSTATE\tEXPIRES\tNEXT RENEWAL\tLAST HOOK")
	for _, s := range o.Services {
		fmt.Fprintln(table, strings.Join([]string{
			oneline.Join(s.Name), oneline.Join(s.Kind), s.word(), moment(s.NotAfter, now), moment(s.Next, now), s.LastHook.word(now),
		}, "\t"))
	}
	if err := table.Flush(); err != nil {
		return trace.Wrap(err)
	}
	for _, s := range o.Services {
		s.writeTroubles(&text, now)
	}
	_, err := io.WriteString(w, trimLines(text.String()))
	return trace.Wrap(err)
}

func (o Overview) writeAgent(w io.Writer, now time.Time) {
	health := "healthy"
	if !o.Healthy {
		health = "degraded"
	}
	fmt.Fprintf(w, "rollcall %s is %s: pid %d, running for %s\n", oneline.Join(o.Version), health, o.PID, span(now.Sub(o.Started)))
	if o.Config != "" {
		fmt.Fprintf(w, "configuration %s, ", oneline.Join(o.Config))
	}
	fmt.Fprintf(w, "storage %s\n", oneline.Join(o.Storage))
	if o.Bot == nil {
		fmt.Fprintf(w, "the bot has no identity yet (join method %s)\n\n", oneline.Join(o.JoinMethod))
		return
	}
	fmt.Fprintf(w, "bot %s of cluster %s, join method %s", oneline.Join(o.Bot.Name), oneline.Join(o.Bot.Cluster), oneline.Join(o.JoinMethod))
	if o.Bot.Generation > 0 {
		fmt.Fprintf(w, ", generation %d", o.Bot.Generation)
	}
	fmt.Fprintf(w, ", expires %s\n\n", moment(&o.Bot.NotAfter, now))
}

// word is the state in one word, with degraded as one of them.
func (s Status) word() string {
	if s.Ready && !s.Healthy() {
		return "degraded"
	}
	return string(s.State)
}

func (h *HookStatus) word(now time.Time) string {
	switch {
	case h == nil:
		return "-"
	case h.OK:
		return "ok " + moment(&h.Time, now)
	default:
		return "failed " + moment(&h.Time, now)
	}
}

// writeTroubles writes what went wrong last, be it over or not.
func (s Status) writeTroubles(w io.Writer, now time.Time) {
	if s.LastError != "" {
		fmt.Fprintf(w, "\n%s: last error, %s", oneline.Join(s.Name), moment(s.LastFailure, now))
		if s.ConsecutiveFailures > 1 {
			fmt.Fprintf(w, ", %d in a row", s.ConsecutiveFailures)
		}
		fmt.Fprintf(w, ":\n  %s\n", oneline.Join(s.LastError))
	}
	if s.LastHook != nil && !s.LastHook.OK {
		fmt.Fprintf(w, "\n%s: hook failed, %s: %s\n  %s\n", oneline.Join(s.Name), moment(&s.LastHook.Time, now),
			oneline.Join(s.LastHook.Message), oneline.Join(s.LastHook.Error))
	}
}

// moment writes a time and how far off it is.
func moment(t *time.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	text := t.UTC().Format("2006-01-02 15:04:05Z")
	if left := t.Sub(now); left > 0 {
		return text + " (in " + span(left) + ")"
	}
	return text + " (" + span(now.Sub(*t)) + " ago)"
}

// span writes a duration with at most two units.
func span(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// trimLines removes what the table leaves at the ends of lines.
func trimLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}
