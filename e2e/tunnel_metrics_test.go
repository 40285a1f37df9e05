package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// measured is the sum of a metric's values for a service, as /metrics has them:
// of those that have all of the labels, NAME="VALUE".
func measured(t *testing.T, address, metric, service string, labels ...string) float64 {
	t.Helper()
	_, metrics := get(t, address+"/metrics")
	labels = append(labels, fmt.Sprintf("service=%q", service))
	sum := 0.0
	for line := range strings.Lines(metrics) {
		series, value, found := strings.Cut(strings.TrimSpace(line), "} ")
		if !found || !strings.HasPrefix(series, metric+"{") || !hasAll(series, labels) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		require.NoError(t, err, line)
		sum += n
	}
	return sum
}

func hasAll(series string, labels []string) bool {
	for _, label := range labels {
		if !strings.Contains(series, label) {
			return false
		}
	}
	return true
}

// renewals is how often a service was renewed so far.
func renewals(t *testing.T, address, service string) int {
	t.Helper()
	return int(measured(t, address, "rollcall_renewals_total", service))
}

// countsRequests makes requests of a tunnel that nobody else uses, and looks for
// each of them in the metrics: one by one, on one connection of the client's.
func (s *tunnelStage) countsRequests(t *testing.T, diag, service string, v *visitor) {
	const gets, posts, refused = 7, 5, 3
	for range gets {
		v.reaches(t, s.web)
	}
	for range posts {
		v.post(t, 1000)
	}
	for range refused {
		v.get(t, "/teleport-logout").refused(t, http.StatusForbidden, "path", "/teleport-logout")
	}

	now := func(metric string, labels ...string) float64 {
		return measured(t, diag, "rollcall_tunnel_"+metric, service, labels...)
	}
	// An answer is counted when it has been sent.
	harness.Eventually(t, patience, "the last request in the metrics", func() error {
		if n := now("requests_total"); n < gets+posts+refused {
			return fmt.Errorf("%v requests", n)
		}
		return nil
	})
	require.EqualValues(t, gets+posts, now("requests_total", `code="2xx"`))
	require.EqualValues(t, refused, now("requests_total", `code="local_403"`))
	require.EqualValues(t, gets+posts+refused, now("requests_total"))
	// What the tunnel answers itself has waited for nobody.
	require.EqualValues(t, gets+posts, now("upstream_seconds_count"))
	require.EqualValues(t, gets+posts, now("upstream_seconds_bucket", `le="+Inf"`))
	require.Positive(t, now("upstream_seconds_sum"))
	// The two ways through the tunnel keep a connection each.
	require.EqualValues(t, 2, now("dials_total", `result="success"`))
	require.Zero(t, now("dials_total", `result="failure"`))
	require.EqualValues(t, 1, now("connections_total", `result="accepted"`))
	require.EqualValues(t, 1, now("connections"))
	require.Greater(t, now("bytes_total", `direction="sent"`), float64(posts*1000))
	v.CloseIdleConnections()
	harness.Eventually(t, patience, "the client's leave in the metrics", func() error {
		if now("connections") != 0 {
			return errors.New("it's still counted")
		}
		return nil
	})
}
