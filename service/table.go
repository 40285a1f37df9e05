package service

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gravitational/trace"
	"golang.org/x/sys/unix"

	"rollcall/failure"
	"rollcall/internal/oneline"
)

// Results, as the table and the JSON have them.
const (
	resultOK      = "ok"
	resultFailed  = "failed"
	resultSkipped = "skipped"
)

// SGR sequences.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	plain  = "\x1b[0m"
)

// UseColor says whether output to w should be coloured: only on a terminal,
// and only if NO_COLOR, whose value is passed in, is empty (no-color.org).
func UseColor(w io.Writer, noColor string) bool {
	file, ok := w.(*os.File)
	if !ok || noColor != "" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// WriteJSON writes outcomes as one JSON object.
func WriteJSON(w io.Writer, outcomes []Outcome) error {
	type row struct {
		Name     string     `json:"name"`
		Result   string     `json:"result"`
		NotAfter *time.Time `json:"not_after,omitempty"`
		Took     float64    `json:"took_seconds"`
		Kind     string     `json:"kind,omitempty"`
		Error    string     `json:"error,omitempty"`
	}
	all := struct {
		OK       bool  `json:"ok"`
		Services []row `json:"services"`
	}{OK: Failed(outcomes) == nil, Services: []row{}}
	for _, outcome := range outcomes {
		r := row{Name: outcome.Name, Result: outcome.result(), Took: outcome.Took.Round(time.Millisecond).Seconds()}
		if !outcome.NotAfter.IsZero() {
			notAfter := outcome.NotAfter.UTC()
			r.NotAfter = &notAfter
		}
		if outcome.Err != nil {
			r.Kind = failure.KindOf(outcome.Err).String()
			r.Error = oneline.Join(outcome.Err.Error())
		}
		all.Services = append(all.Services, r)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return trace.Wrap(encoder.Encode(all))
}

// WriteTable writes outcomes as an aligned table, one line each.
func WriteTable(w io.Writer, outcomes []Outcome, color bool) error {
	rows := [][]string{{"NAME", "RESULT", "EXPIRES", "TOOK", "ERROR"}}
	for _, outcome := range outcomes {
		rows = append(rows, outcome.cells())
	}
	widths := make([]int, len(rows[0])-1)
	for _, row := range rows {
		for i := range widths {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	var text strings.Builder
	for i, row := range rows {
		var line strings.Builder
		for column, cell := range row {
			if column < len(widths) {
				cell = pad(cell, widths[column]) + "  "
			}
			if column == 1 && i > 0 && color {
				cell = paint(row[1]) + cell + plain
			}
			line.WriteString(cell)
		}
		text.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, text.String())
	return trace.Wrap(err)
}

func (o Outcome) result() string {
	switch {
	case o.Skipped:
		return resultSkipped
	case o.Err != nil:
		return resultFailed
	default:
		return resultOK
	}
}

func (o Outcome) cells() []string {
	expires, took, text := "-", "-", ""
	if !o.NotAfter.IsZero() {
		expires = o.NotAfter.UTC().Format("2006-01-02 15:04:05Z")
	}
	if !o.Skipped {
		took = fmt.Sprintf("%.3fs", o.Took.Seconds())
	}
	if o.Err != nil {
		text = oneline.Join(o.Err.Error())
	}
	return []string{oneline.Join(o.Name), o.result(), expires, took, text}
}

func pad(cell string, width int) string {
	return cell + strings.Repeat(" ", width-utf8.RuneCountInString(cell))
}

func paint(result string) string {
	switch result {
	case resultOK:
		return green
	case resultSkipped:
		return yellow
	default:
		return red
	}
}
