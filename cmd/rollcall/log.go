package main

import (
	stdlog "log"
	"log/slog"

	"rollcall/diagnostics"
)

// newLogger returns the process's logger. What libraries print with the standard
// log package goes there as well, for debugging: net/http for one has no other
// place for some of it, such as an answer that nobody asked for, and quotes it.
func newLogger(env environment, format string, debug bool) *slog.Logger {
	log := diagnostics.NewLogger(env.Stderr, format, debug, env.Getenv("JOURNAL_STREAM"))
	stdlog.SetFlags(0) // each record has its time
	stdlog.SetOutput(slog.NewLogLogger(log.Handler(), slog.LevelDebug).Writer())
	return log
}
