package diagnostics

import (
	"fmt"
	"slices"
	"time"
)

// maxSummary is the length of a summary in bytes, beyond which a terminal line
// of `systemctl status` gets hard to read.
const maxSummary = 200

// Healthy says whether a service needs nobody's attention: it's ready, its last
// attempt worked, and so did its hooks.
func (s Status) Healthy() bool {
	return s.Ready && !s.Degraded && (s.LastHook == nil || s.LastHook.OK)
}

// Healthy says whether there are services and all of them are healthy.
func Healthy(all []Status) bool {
	return len(all) > 0 && !slices.ContainsFunc(all, func(s Status) bool { return !s.Healthy() })
}

// Summary tells the state of all services in one line, the worst of it first:
// it's what `systemctl status` shows.
func Summary(all []Status) string {
	var bad []Status
	var next Status
	for _, s := range all {
		if !s.Healthy() {
			bad = append(bad, s)
		}
		if s.Next != nil && (next.Next == nil || s.Next.Before(*next.Next)) {
			next = s
		}
	}
	text := fmt.Sprintf("all %d services are ready", len(all))
	switch {
	case len(all) == 0:
		text = "no services"
	case len(bad) > 0:
		text = fmt.Sprintf("%d of %d services need attention: %s", len(bad), len(all), complaint(worst(bad)))
	case len(all) == 1:
		text = "1 service is ready"
	}
	if next.Next == nil {
		return shorten(text, maxSummary)
	}
	tail := fmt.Sprintf("; next renewal %s (%s)", next.Next.UTC().Format(time.RFC3339), next.Name)
	return shorten(text, maxSummary-len(tail)) + tail
}

// worst returns the first of the services that provide nothing, or else the
// first.
func worst(bad []Status) Status {
	if i := slices.IndexFunc(bad, func(s Status) bool { return !s.Ready && s.State != StateStarting }); i >= 0 {
		return bad[i]
	}
	return bad[0]
}

// complaint says what is wrong with one service.
func complaint(s Status) string {
	switch {
	case s.State == StateStarting:
		return s.Name + " is starting"
	case s.State == StateStopped:
		return s.Name + " has stopped"
	case s.Ready && !s.Degraded:
		return s.Name + ": a hook failed: " + s.LastHook.Error
	case s.State == StateExpired:
		return s.Name + " has expired: " + s.LastError
	default:
		return s.Name + ": " + s.LastError
	}
}

// shorten cuts a text to at most limit bytes, at a rune.
func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	const dots = "…"
	end := 0
	for i := range text {
		if i > limit-len(dots) {
			break
		}
		end = i
	}
	return text[:end] + dots
}
