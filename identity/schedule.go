package identity

import (
	"time"

	"rollcall/cluster"
)

// backdated is how far Teleport dates a certificate's beginning back, for
// clocks that differ a little (lib/tlsca of Teleport 14).
const backdated = time.Minute

// maxSkew is the difference between two clocks that goes unmentioned.
const maxSkew = 30 * time.Second

// issuedAt is when the certificate was made, as far as it tells.
func issuedAt(creds *cluster.Credentials, now time.Time) time.Time {
	at := creds.NotBefore().Add(backdated)
	if at.After(now) {
		return now
	}
	return at
}

// due is when the identity is to be renewed: interval after it was issued, less
// up to a tenth so that a fleet that started together doesn't renew together.
// It depends on the certificate alone, so that a restart doesn't renew what
// isn't due. A certificate that lives shorter than asked for is renewed when
// two thirds of its life are over. jitter is in [0, 1).
func due(creds *cluster.Credentials, now time.Time, interval time.Duration, jitter float64) time.Time {
	issued := issuedAt(creds, now)
	life := creds.NotAfter().Sub(issued)
	wait := min(interval, life*2/3)
	return issued.Add(wait - time.Duration(jitter*float64(wait)/10))
}

// dueAfter is when an identity that was issued just now is to be renewed. It
// doesn't believe the certificate's beginning, which the cluster's clock set: if
// this host's clock were ahead by more than interval, each renewal would be due
// at once.
func dueAfter(creds *cluster.Credentials, now time.Time, interval time.Duration, jitter float64) time.Time {
	wait := min(interval, creds.NotAfter().Sub(now)*2/3)
	wait = max(wait, min(interval, time.Minute)/2)
	return now.Add(wait - time.Duration(jitter*float64(wait)/10))
}

// retryIn is the wait before the next attempt after a number of consecutive
// failures: doubling from a second to a minute, then up to five if the identity
// has long to live; with full jitter in the upper half, for ever. jitter is in
// [0, 1).
func retryIn(failures int, left time.Duration, jitter float64) time.Duration {
	const first, last = time.Second, 5 * time.Minute
	wait := first << min(failures-1, 10)
	wait = min(wait, last)
	// Near the end of the identity's life, or without one, every minute
	// counts.
	wait = min(wait, max(left/10, time.Minute))
	return wait/2 + time.Duration(jitter*float64(wait)/2)
}

// presentAnyway is when an identity whose generation may be behind is presented
// all the same, where the server's own count can't be read: with a third of its
// life left, an operator has had the other two thirds to see the warning.
func presentAnyway(creds *cluster.Credentials, now time.Time) time.Time {
	life := creds.NotAfter().Sub(issuedAt(creds, now))
	return creds.NotAfter().Add(-life / 3)
}
