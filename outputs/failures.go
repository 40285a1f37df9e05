package outputs

import (
	"context"
	"log/slog"
	"time"

	"rollcall/failure"
)

// failureLog logs failed attempts without filling the log during an outage: a
// new message at once, a repeated one at debug level but for the 8th, 16th,
// 32nd time and so on. It belongs to the goroutine that renews.
type failureLog struct {
	log *slog.Logger
	// last is the last message, bare whether there was no valid certificate
	// then, repeats how often in a row it came.
	last    string
	bare    bool
	repeats int
}

// failed logs an attempt that failed, with the time that is left until the
// credentials in place end. A zero next means that no attempt follows.
func (f *failureLog) failed(ctx context.Context, err error, current lifetime, next time.Time) {
	now := time.Now()
	left := current.left(now)
	bare := left <= 0
	if err.Error() != f.last || bare != f.bare {
		f.last, f.bare, f.repeats = err.Error(), bare, 0
	}
	f.repeats++

	args := []any{"err", err, "kind", failure.KindOf(err).String()}
	if !next.IsZero() {
		args = append(args, "retry_in", next.Sub(now).Round(time.Millisecond))
	}
	if f.repeats > 1 {
		args = append(args, "repeated", f.repeats)
	}
	level, message := slog.LevelWarn, "Renewing failed; the credentials in place are still valid."
	switch {
	case current.notAfter.IsZero():
		message = "There are no credentials yet, and getting them failed."
	case bare:
		level, message = slog.LevelError, "The credentials in place have ended and can't be renewed."
		args = append(args, "ended", current.notAfter, "ended_ago", (-left).Round(time.Second))
	default:
		args = append(args, "not_after", current.notAfter, "left", left.Round(time.Second))
	}
	if !f.loud() {
		level = slog.LevelDebug
	}
	f.log.Log(ctx, level, message, args...)
}

// loud says whether this repetition is to be seen without debug logging.
func (f *failureLog) loud() bool {
	n := f.repeats
	return n == 1 || (n >= 8 && n&(n-1) == 0)
}

// worked forgets the failures before.
func (f *failureLog) worked() {
	f.last, f.bare, f.repeats = "", false, 0
}
