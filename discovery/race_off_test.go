//go:build !race

package discovery

// histories is how many histories TestHistories plays.
const histories = 10_000
