package identity

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDue(t *testing.T) {
	ca := newAuthority(t)
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		issued        time.Time
		ttl, interval time.Duration
		jitter        float64
		want          time.Time
	}{
		"an interval after it was issued":        {now, time.Hour, 20 * time.Minute, 0, now.Add(20 * time.Minute)},
		"up to a tenth earlier":                  {now, time.Hour, 20 * time.Minute, 0.5, now.Add(19 * time.Minute)},
		"the same after a restart":               {now.Add(-15 * time.Minute), time.Hour, 20 * time.Minute, 0, now.Add(5 * time.Minute)},
		"two thirds of a shorter life":           {now, 15 * time.Minute, 20 * time.Minute, 0, now.Add(10 * time.Minute)},
		"long ago":                               {now.Add(-2 * time.Hour), time.Hour, 20 * time.Minute, 0, now.Add(-100 * time.Minute)},
		"issued in our future counts as now":     {now.Add(5 * time.Minute), time.Hour, 20 * time.Minute, 0, now.Add(20 * time.Minute)},
		"issued by a clock that is a day behind": {now.Add(-24 * time.Hour), 25 * time.Hour, 20 * time.Minute, 0, now.Add(-24*time.Hour + 20*time.Minute)},
	}
	for name, test := range tests {
		creds := ca.issue(1, test.issued, test.ttl)
		require.Equal(t, test.want, due(creds, now, test.interval, test.jitter).UTC(), name)
	}
}

func TestDueAfter(t *testing.T) {
	ca := newAuthority(t)
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		issued        time.Time
		ttl, interval time.Duration
		jitter        float64
		want          time.Duration
	}{
		"the interval":                      {now, time.Hour, 20 * time.Minute, 0, 20 * time.Minute},
		"up to a tenth earlier":             {now, time.Hour, 20 * time.Minute, 0.5, 19 * time.Minute},
		"two thirds of what is left":        {now, 15 * time.Minute, 20 * time.Minute, 0, 10 * time.Minute},
		"our clock is ahead of the cluster": {now.Add(-30 * time.Minute), 90 * time.Minute, 20 * time.Minute, 0, 20 * time.Minute},
		"so far that it has ended for us":   {now.Add(-2 * time.Hour), time.Hour, 20 * time.Minute, 0, 30 * time.Second},
		"a second's interval":               {now, time.Minute, time.Second, 0, time.Second},
	}
	for name, test := range tests {
		creds := ca.issue(1, test.issued, test.ttl)
		require.Equal(t, test.want, dueAfter(creds, now, test.interval, test.jitter).Sub(now), name)
	}
}

func TestRetryIn(t *testing.T) {
	const hour = time.Hour
	tests := map[string]struct {
		failures int
		left     time.Duration
		jitter   float64
		want     time.Duration
	}{
		"first":                           {1, hour, 0, 500 * time.Millisecond},
		"first, most jitter":              {1, hour, 1, time.Second},
		"second":                          {2, hour, 1, 2 * time.Second},
		"seventh":                         {7, hour, 1, 64 * time.Second},
		"at most five minutes":            {10, 10 * hour, 1, 5 * time.Minute},
		"for ever":                        {1 << 40, 10 * hour, 1, 5 * time.Minute},
		"at most a tenth of what is left": {9, 30 * time.Minute, 1, 3 * time.Minute},
		"but a minute is always allowed":  {9, time.Minute, 1, time.Minute},
		"without an identity":             {9, 0, 1, time.Minute},
		"after its end":                   {9, -hour, 1, time.Minute},
	}
	for name, test := range tests {
		require.Equal(t, test.want, retryIn(test.failures, test.left, test.jitter), name)
	}
}

func TestPresentAnyway(t *testing.T) {
	ca := newAuthority(t)
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	require.Equal(t, now.Add(40*time.Minute), presentAnyway(ca.issue(3, now, time.Hour), now).UTC())
	require.Equal(t, now.Add(30*time.Minute), presentAnyway(ca.issue(3, now.Add(-10*time.Minute), time.Hour), now).UTC())
}
