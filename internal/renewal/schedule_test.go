package renewal

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSchedule(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	at := now.Add
	tests := map[string]struct {
		issued, notAfter time.Time
		interval         time.Duration
		jitter           float64
		want             time.Time
	}{
		"fresh":                         {now, at(time.Hour), 20 * time.Minute, 0, at(20 * time.Minute)},
		"after a restart":               {at(-5 * time.Minute), at(55 * time.Minute), 20 * time.Minute, 0, at(15 * time.Minute)},
		"jitter is early at most":       {now, at(time.Hour), 20 * time.Minute, -1, at(18 * time.Minute)},
		"jitter is late at most":        {now, at(time.Hour), 20 * time.Minute, 1, at(22 * time.Minute)},
		"overdue":                       {at(-30 * time.Minute), at(30 * time.Minute), 20 * time.Minute, 0, now},
		"ended":                         {at(-2 * time.Hour), at(-time.Hour), 20 * time.Minute, 0, now},
		"capped below the interval":     {now, at(15 * time.Minute), 20 * time.Minute, 0, at(10 * time.Minute)},
		"capped just above it":          {now, at(24 * time.Minute), 20 * time.Minute, 0, at(16 * time.Minute)},
		"late jitter leaves a quarter":  {now, at(15 * time.Minute), 20 * time.Minute, 1, at(11 * time.Minute)},
		"clock behind the server's":     {at(10 * time.Minute), at(70 * time.Minute), 20 * time.Minute, 0, at(20 * time.Minute)},
		"ends before it began":          {at(time.Hour), at(-time.Hour), 20 * time.Minute, 0, now},
		"without an interval":           {now, at(time.Hour), 0, 0, at(40 * time.Minute)},
		"seconds, as tests have it":     {now, at(time.Minute), 5 * time.Second, 0, at(5 * time.Second)},
		"days, as the longest life has": {now, at(24 * time.Hour), 8 * time.Hour, 0, at(8 * time.Hour)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := Schedule(now, test.issued, test.notAfter, test.interval, test.jitter)
			require.Equal(t, test.want, got.Round(time.Millisecond))
		})
	}
}

func TestIssuedAt(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	backdated := now.Add(-time.Minute)
	require.Equal(t, now, IssuedAt(backdated, now.Add(time.Hour), time.Hour), "full life: exact")
	require.Equal(t, backdated, IssuedAt(backdated, now.Add(10*time.Minute), time.Hour), "capped: a minute early")
	require.Equal(t, now, IssuedAt(backdated, now.Add(20*time.Second), 20*time.Second), "short life: exact")
}

func TestRetryDelay(t *testing.T) {
	const most = 0.999999
	tests := map[string]struct {
		failures int
		left     time.Duration
		random   float64
		want     time.Duration
	}{
		"first, early":          {1, time.Hour, 0, time.Second},
		"first, late":           {1, time.Hour, most, 2 * time.Second},
		"second, late":          {2, time.Hour, most, 4 * time.Second},
		"fifth, middle":         {5, time.Hour, 0.5, 16500 * time.Millisecond},
		"grows to five minutes": {9, time.Hour, most, 5 * time.Minute},
		"and stays there":       {1000000, time.Hour, most, 5 * time.Minute},
		"early even then":       {1000000, time.Hour, 0, time.Second},
		"quarter of what's left": {
			20, 8 * time.Minute, most, 2 * time.Minute,
		},
		"near the end":    {20, 10 * time.Second, most, 2500 * time.Millisecond},
		"at the end":      {20, time.Second, most, time.Second},
		"nothing is left": {20, -time.Hour, most, time.Minute},
		"nothing is there": {
			20, 0, most, time.Minute,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			require.InDelta(t, test.want, RetryDelay(test.failures, test.left, test.random), float64(time.Millisecond))
		})
	}
}
