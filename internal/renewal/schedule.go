// Package renewal knows when what ends is to be renewed: how long before its
// end, how soon after a failure, and how requests to do it at once are merged.
// It doesn't know what is renewed.
package renewal

import "time"

const (
	// jitterShare is how far a renewal moves to either side, as a share of the
	// wait, so that agents started together don't renew together.
	jitterShare = 0.1
	// lifeShare is the share of a certificate's life after which it's renewed
	// at the latest; the rest is for retries.
	lifeShare = 2.0 / 3

	// MinRetry is the shortest wait between two attempts.
	MinRetry = time.Second
	maxRetry = 5 * time.Minute
	// maxRetryBare is the longest wait while there's no valid certificate.
	maxRetryBare = time.Minute
)

// Schedule returns when a certificate is due for renewal: the interval after
// it was issued, or two thirds of its life if that's less (a role's
// max_session_ttl can make a certificate shorter than was asked for). jitter
// in [-1,1] moves this by up to a tenth of the wait. What is overdue is due
// now. An issue time in the future (clocks differ) counts as now, lest the
// certificate be left alone for longer than the interval.
func Schedule(now, issued, notAfter time.Time, interval time.Duration, jitter float64) time.Time {
	if issued.After(now) {
		issued = now
	}
	life := notAfter.Sub(issued)
	if life <= 0 {
		return now
	}
	wait := time.Duration(float64(life) * lifeShare)
	if interval > 0 {
		wait = min(wait, interval)
	}
	due := issued.Add(time.Duration(float64(wait) * (1 + jitterShare*jitter)))
	if due.Before(now) {
		return now
	}
	return due
}

// IssuedAt returns when the cluster issued a certificate that was asked for
// with ttl. Servers set NotBefore back by a minute against clocks that differ,
// which matters where the interval is short; the end minus the TTL is exact
// unless the life was capped.
func IssuedAt(notBefore, notAfter time.Time, ttl time.Duration) time.Time {
	asked := notAfter.Add(-ttl)
	if asked.After(notBefore) {
		return asked
	}
	return notBefore
}

// RetryDelay returns how long to wait after the given number of failures in a
// row (1 or more): exponential with full jitter between one second and five
// minutes, random in [0,1). The less is left until the certificate ends, the
// sooner is the next try: at most a quarter of it. Without a valid
// certificate, left <= 0, the wait is at most one minute.
func RetryDelay(failures int, left time.Duration, random float64) time.Duration {
	ceiling := maxRetry
	if doublings := failures - 1; doublings < 10 {
		ceiling = min(ceiling, 2*MinRetry<<doublings)
	}
	if left > 0 {
		ceiling = min(ceiling, left/4)
	} else {
		ceiling = min(ceiling, maxRetryBare)
	}
	if ceiling <= MinRetry {
		return MinRetry
	}
	return MinRetry + time.Duration(random*float64(ceiling-MinRetry))
}
