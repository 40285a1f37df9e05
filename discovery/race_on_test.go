//go:build race

package discovery

// histories is how many histories TestHistories plays. The race detector makes
// them ten times as slow and knows after a thousand what there is to know;
// make unit plays them all without it, too.
const histories = 1_000
