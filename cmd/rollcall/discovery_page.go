package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
)

// Colours of the terminal.
const (
	colorGreen  = "\x1b[32m"
	colorYellow = "\x1b[33m"
	colorRed    = "\x1b[31m"
	colorDim    = "\x1b[2m"
	colorPlain  = "\x1b[0m"
)

// page collects a text for people.
type page struct {
	strings.Builder
	color bool
	now   time.Time
}

func (w *page) line(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

// painted is a text in a colour, if colours are wanted.
func (w *page) painted(color, text string) string {
	if !w.color || color == "" {
		return text
	}
	return color + text + colorPlain
}

// plan writes a plan: a line for each action with what changes below it, and
// the sums.
func (w *page) plan(p plan.Plan) {
	w.actions(p.Actions)
	if p.Budget.Frozen {
		w.line("%s", w.painted(colorRed, "Deletions are frozen: more are asked for than the budget allows ("+
			fmt.Sprintf("%d in the last hour and %d more, of at most %d).", p.Budget.Used, p.Budget.Asked, p.Budget.Limit)))
		w.line("If they're right: rollcall discovery apply --acknowledge %s", p.DeletionHash)
	}
	w.line("%s", sums(p))
}

// sums are a plan's numbers in one sentence.
func sums(p plan.Plan) string {
	waiting, wanted, away, blocked := 0, 0, 0, 0
	for i := range p.Actions {
		switch a := &p.Actions[i]; {
		case a.Waiting:
			waiting++
		case a.Wanted:
			wanted++
		case a.Away:
			away++
		case a.Op == plan.OpBlocked:
			blocked++
		}
	}
	text := fmt.Sprintf("%d to create, %d to update, %d to delete", p.Count(plan.OpCreate), p.Count(plan.OpUpdate), p.Count(plan.OpDelete))
	add := func(n int, noun string) {
		if n > 0 {
			text += fmt.Sprintf(", %d %s", n, noun)
		}
	}
	add(waiting, "waiting")
	add(p.Conflicts(), "in conflict")
	add(blocked, "blocked")
	add(wanted, "kept")
	add(away, "away")
	return fmt.Sprintf("%s; %d as they should be; %d of others left alone.", text, p.Unchanged, p.Foreign)
}

// actions writes those that aren't "nothing".
func (w *page) actions(actions []plan.Action) {
	var rows strings.Builder
	table := tabwriter.NewWriter(&rows, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "WHAT\tRESOURCE\tWORKLOAD\tWHY")
	var shown []*plan.Action
	for i := range actions {
		a := &actions[i]
		if a.Op == plan.OpNothing && !a.Waiting && !a.Away {
			continue
		}
		shown = append(shown, a)
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", wordOf(a), shortened(nameOf(a.Key)), shortened(dash(a.Workload)), printable(a.Reason))
	}
	_ = table.Flush() // into memory
	if len(shown) == 0 {
		return
	}
	for i, row := range strings.Split(strings.TrimRight(rows.String(), "\n"), "\n") {
		if i == 0 {
			w.line("%s", row)
			continue
		}
		a := shown[i-1]
		word := wordOf(a)
		w.line("%s%s", w.painted(colorOf(a), word), strings.TrimPrefix(row, word))
		w.changes(a.Changes)
	}
	w.line("")
}

// changes writes what changes in one resource.
func (w *page) changes(changes []resource.Change) {
	for _, c := range changes {
		text := printable(c.String())
		switch {
		case c.Before == "":
			text = printable(fmt.Sprintf("%s: %q", c.Field, c.After))
		case c.After == "":
			text = printable(fmt.Sprintf("%s: %q, removed", c.Field, c.Before))
		}
		w.line("    %s", w.painted(colorDim, text))
	}
}

// wordOf is an action in one word.
func wordOf(a *plan.Action) string {
	switch {
	case a.Waiting:
		return "wait"
	case a.Wanted:
		return "keep"
	case a.Away:
		return "away"
	case a.Refresh:
		return "refresh"
	default:
		return string(a.Op)
	}
}

func colorOf(a *plan.Action) string {
	switch {
	case a.Waiting || a.Wanted:
		return colorDim
	case a.Away:
		return colorYellow
	case a.Op == plan.OpCreate:
		return colorGreen
	case a.Op == plan.OpUpdate:
		return colorYellow
	default:
		return colorRed
	}
}

func nameOf(k resource.Key) string {
	if k.Name == "" {
		return "-"
	}
	return k.String()
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// shortened keeps a column narrow.
func shortened(text string) string {
	const most = 63
	runes := []rune(printable(text))
	if len(runes) <= most {
		return string(runes)
	}
	return string(runes[:most-1]) + "…"
}

// printable keeps what a workload may have chosen from steering the terminal or
// breaking a line.
func printable(text string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsPrint(r):
			return r
		default:
			return -1
		}
	}, text)), " ")
}
