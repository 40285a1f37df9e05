package service

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBackoffSeries(t *testing.T) {
	short := time.Millisecond
	for _, test := range []struct {
		name   string
		random float64
		ran    []time.Duration
		want   []time.Duration
	}{
		{
			name: "doubles up to the limit", random: 0,
			ran:  []time.Duration{short, short, short, short, short, short, short, short},
			want: []time.Duration{1250 * time.Millisecond, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, time.Minute, time.Minute},
		},
		{
			name: "chance takes off a fifth", random: 0.999999999,
			ran:  []time.Duration{short, short, short},
			want: []time.Duration{time.Second, 2 * time.Second, 4 * time.Second},
		},
		{
			name: "starts over after a healthy run", random: 0,
			ran:  []time.Duration{short, short, healthy, short},
			want: []time.Duration{1250 * time.Millisecond, 2500 * time.Millisecond, 1250 * time.Millisecond, 2500 * time.Millisecond},
		},
		{
			name: "goes on after a run that was too short", random: 0,
			ran:  []time.Duration{short, healthy - 1},
			want: []time.Duration{1250 * time.Millisecond, 2500 * time.Millisecond},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b backoff
			for i, ran := range test.ran {
				require.InDelta(t, test.want[i], b.next(ran, test.random), float64(time.Microsecond), "wait %d", i)
			}
		})
	}
}

func TestBackoffStaysInBounds(t *testing.T) {
	for _, random := range []float64{0, 0.3, 0.5, 0.9999} {
		var b backoff
		for range 50 {
			wait := b.next(0, random)
			require.GreaterOrEqual(t, wait, minDelay)
			require.LessOrEqual(t, wait, maxDelay)
		}
	}
}
