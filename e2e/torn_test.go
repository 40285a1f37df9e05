package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

const (
	tornOutputs = 5
	tornRounds  = 21 // 105 renewals
)

// tornResult is a row of the table.
type tornResult struct {
	agent                 string
	renewals              int
	took                  time.Duration
	inotify, byName, once count
}

// TestTornReads lets three kinds of programs read certificate and key while
// agents renew: each agent the same outputs, one agent after the other.
func TestTornReads(t *testing.T) {
	rollcall := func(update string) func(t *testing.T, s *stage) *harness.Process {
		return func(t *testing.T, s *stage) *harness.Process {
			var outputs strings.Builder
			for i := range tornOutputs {
				fmt.Fprintf(&outputs, "  - {type: application, name: out%d, app_name: %s, destination: {type: directory, path: %s, update: %s}}\n",
					i, s.app.Name, s.place(fmt.Sprint("out", i)), update)
			}
			return s.start(t, s.document(t, document{outputs: outputs.String()}))
		}
	}
	results := make([]*tornResult, 0, 3)
	for _, agent := range []struct {
		name  string
		start func(t *testing.T, s *stage) *harness.Process
	}{
		{"rollcall, update: set", rollcall("set")},
		{"rollcall, update: file", rollcall("file")},
		{"tbot 14.2.3", startTbot},
	} {
		t.Run(agent.name, func(t *testing.T) {
			results = append(results, tear(t, agent.name, agent.start))
		})
	}
	t.Log(tornTable(results))
	if t.Failed() {
		return
	}
	set := results[0]
	require.Zero(t, set.once.torn.Load(), "torn pairs through a directory that was opened once")
	require.Zero(t, set.once.failed.Load(), "failed reads through a directory that was opened once: %v", set.once.failure)
	t.Logf("of those reads %d were begun again", set.once.again.Load())
	require.Zero(t, set.inotify.torn.Load(), "torn pairs after ..data changed")
	require.Zero(t, set.inotify.failed.Load(), "failed reads after ..data changed: %v", set.inotify.failure)
	require.Zero(t, set.byName.failed.Load(), "a name was missing for a moment: %v", set.byName.failure)
	for _, result := range results {
		require.GreaterOrEqual(t, result.renewals, 100, result.agent)
		require.Positive(t, result.inotify.reads.Load(), result.agent)
	}
}

// tear renews all outputs round by round under the eyes of the readers. A round
// begins when the one before it is through and its reloads are done: renewals
// that follow each other faster than a program reloads are nobody's.
func tear(t *testing.T, name string, start func(t *testing.T, s *stage) *harness.Process) *tornResult {
	s := newStage(t)
	agent := start(t, s)
	result := &tornResult{agent: name}
	serials := make([]string, tornOutputs)
	for i := range tornOutputs {
		s.awaitFile(t, agent, fmt.Sprint("out", i))
		harness.Eventually(t, patience, "the first set", func() error {
			_, _, err := openByName(s.place(fmt.Sprint("out", i)))
			return err
		})
		serials[i] = s.serial(t, fmt.Sprint("out", i))
	}

	ctx, cancel := context.WithCancel(t.Context())
	all := make([]*readers, tornOutputs)
	for i := range all {
		all[i] = &readers{inotify: &result.inotify, byName: &result.byName, once: &result.once}
		all[i].watch(ctx, t, s.place(fmt.Sprint("out", i)))
	}
	t.Cleanup(cancel)
	began := time.Now()
	for range tornRounds {
		before := make([]int64, tornOutputs)
		for i := range all {
			before[i] = all[i].reloads.Load()
		}
		agent.Signal(t, syscall.SIGUSR1)
		for i := range all {
			serials[i] = s.awaitSerial(t, agent, fmt.Sprint("out", i), serials[i])
			agent.WaitFor(t, patience, "the reload", func() error {
				if all[i].reloads.Load() == before[i] {
					return errors.New("not done")
				}
				return nil
			})
			result.renewals++
		}
	}
	result.took = time.Since(began)
	cancel()
	for _, r := range all {
		r.group.Wait()
		require.NoError(t, r.fault)
	}
	agent.Terminate(t)
	return result
}

func startTbot(t *testing.T, s *stage) *harness.Process {
	t.Helper()
	var config strings.Builder
	fmt.Fprintf(&config, `
version: v2
auth_server: %s
onboarding: {join_method: token, token: %s}
storage: {type: directory, path: %s}
certificate_ttl: 1h
renewal_interval: 20m
outputs:
`, s.cluster.Info().ProxyAddr, s.bot.Token, filepath.Join(s.dir, "tbot"))
	for i := range tornOutputs {
		fmt.Fprintf(&config, "  - {type: application, app_name: %s, destination: {type: directory, path: %s}}\n",
			s.app.Name, s.place(fmt.Sprint("out", i)))
	}
	return s.cluster.Tbot(t, "start", "-c", s.configWith(t, config.String()))
}

func tornTable(results []*tornResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "torn pairs (and failed reads) of all reads\n%-24s %8s  %-22s %-26s %-26s\n",
		"agent", "renewals", "(a) inotify", "(b) by name, tight loop", "(c) directory opened once")
	for _, r := range results {
		fmt.Fprintf(&b, "%-24s %8d", r.agent, r.renewals)
		for _, c := range []*count{&r.inotify, &r.byName, &r.once} {
			fmt.Fprintf(&b, "  %-24s", fmt.Sprintf("%d (%d) of %d", c.torn.Load(), c.failed.Load(), c.reads.Load()+c.failed.Load()))
		}
		fmt.Fprintf(&b, "  in %v\n", r.took.Round(time.Second))
	}
	return b.String()
}
