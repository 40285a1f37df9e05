package diagnostics

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
)

// Log formats, as the configuration and the command line have them.
const (
	FormatText = "text"
	FormatJSON = "json"
)

// Keys that every log line uses; renaming one breaks people's queries.
const (
	KeyService = "service"
	KeyErr     = "err"
	KeyCause   = "cause"
)

// NewLogger returns the agent's logger: one line a record, with the keys time,
// level, msg, service and err. An error is written as its sentence; with debug
// the attribute cause has every error of its chain and where it came from.
// Each record is one Write on w.
//
// The variable JOURNAL_STREAM is passed in as journalStream. If it names w, as
// it does where systemd started the process, lines start with <N>, the syslog
// priority that the journal reads, and have no time, which the journal has.
func NewLogger(w io.Writer, format string, debug bool, journalStream string) *slog.Logger {
	journal := isJournal(w, journalStream)
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	options := &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, attr slog.Attr) slog.Attr {
			if journal && len(groups) == 0 && attr.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return plainError(attr)
		},
	}
	out := &lineWriter{out: w, journal: journal}
	if format == FormatJSON {
		return slog.New(&handler{inner: slog.NewJSONHandler(out, options), out: out, debug: debug})
	}
	return slog.New(&handler{inner: slog.NewTextHandler(out, options), out: out, debug: debug})
}

// plainError replaces an error by its sentence.
func plainError(attr slog.Attr) slog.Attr {
	if err := errorOf(attr); err != nil {
		return slog.String(attr.Key, sentence(err))
	}
	return attr
}

// errorOf returns the error that is an attribute's value, or nil.
func errorOf(attr slog.Attr) error {
	if attr.Value.Kind() != slog.KindAny {
		return nil
	}
	err, _ := attr.Value.Any().(error)
	return err
}

// handler adds causes, and tells the writer each line's level.
type handler struct {
	inner slog.Handler
	out   *lineWriter
	debug bool
}

// Enabled reports whether the level is shown.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.inner.Enabled(ctx, level)
}

// Handle writes one record.
func (h *handler) Handle(ctx context.Context, record slog.Record) error {
	if h.debug {
		record = withCauses(record)
	}
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.level = record.Level
	return h.inner.Handle(ctx, record)
}

// WithAttrs returns a handler that adds attrs to each record.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{inner: h.inner.WithAttrs(attrs), out: h.out, debug: h.debug}
}

// WithGroup returns a handler that puts attributes into a group.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{inner: h.inner.WithGroup(name), out: h.out, debug: h.debug}
}

// withCauses adds the attribute cause for the first error of a record that has
// more to say than its sentence.
func withCauses(record slog.Record) slog.Record {
	text := ""
	record.Attrs(func(attr slog.Attr) bool {
		if err := errorOf(attr); err != nil {
			text = causes(err)
		}
		return text == ""
	})
	if text == "" {
		return record
	}
	record = record.Clone()
	record.AddAttrs(slog.String(KeyCause, text))
	return record
}

// lineWriter puts the journal's priority before each line.
type lineWriter struct {
	out     io.Writer
	journal bool

	// mu protects the following, and is held by the handler for a whole record.
	mu    sync.Mutex
	level slog.Level
}

// Write is called once a record, with mu held.
func (w *lineWriter) Write(line []byte) (int, error) {
	if !w.journal {
		return w.out.Write(line)
	}
	var buffer bytes.Buffer
	fmt.Fprintf(&buffer, "<%d>", priority(w.level))
	buffer.Write(line)
	if _, err := w.out.Write(buffer.Bytes()); err != nil {
		return 0, err
	}
	return len(line), nil
}

// priority returns the syslog priority of a level, see sd-daemon(3).
func priority(level slog.Level) int {
	switch {
	case level >= slog.LevelError:
		return 3
	case level >= slog.LevelWarn:
		return 4
	case level >= slog.LevelInfo:
		return 6
	default:
		return 7
	}
}

// isJournal says whether w is the stream to the journal that systemd named:
// stderr may have been redirected since, and then gets ordinary lines.
func isJournal(w io.Writer, journalStream string) bool {
	file, ok := w.(*os.File)
	if !ok || journalStream == "" {
		return false
	}
	info, err := file.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && fmt.Sprintf("%d:%d", stat.Dev, stat.Ino) == journalStream
}
