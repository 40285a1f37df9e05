package discovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

func TestOnceWaitsForTheAbsentGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := crowd(3)
		source.Stop("c00")
		source.Set(container("new"))
		r := newRig(t, source, teleport, nil)
		began := time.Now()
		p, result, err := r.Apply(t.Context())
		require.NoError(t, err)
		require.Equal(t, Result{Created: 1, Deleted: 1}, result)
		require.False(t, waits(p))
		require.Equal(t, []string{"c01", "c02", "new"}, teleport.Names())
		require.InDelta(t, 10*time.Second, time.Since(began), float64(time.Second))
		require.Equal(t, 2, source.Reads())
	})
}

func TestOnceSaysWhatItCouldntDo(t *testing.T) {
	for _, test := range []struct {
		name    string
		prepare func(*FakeSource, *FakeTeleport)
		kind    failure.Kind
		told    string
	}{
		{"the source", func(s *FakeSource, _ *FakeTeleport) { s.Fail(failure.New(failure.Unreachable, "no Docker")) }, failure.Unreachable, "nothing is changed: no Docker"},
		{"the cluster", func(_ *FakeSource, f *FakeTeleport) {
			f.fault = func(string, string) error { return failure.New(failure.Unreachable, "no cluster") }
		}, failure.Unreachable, "no cluster"},
		{"one resource", func(_ *FakeSource, f *FakeTeleport) {
			f.fault = func(op, _ string) error {
				if op == "create" {
					return failure.New(failure.Refused, "the role lacks create")
				}
				return nil
			}
		}, failure.Refused, "1 of 1 resources can't be written; the first, app/a: the role lacks create"},
		{"a conflict", func(_ *FakeSource, f *FakeTeleport) { f.Put(theirs("a")) }, failure.Conflict, "app/a exists already"},
		{"a hidden name", func(_ *FakeSource, f *FakeTeleport) { f.sees = us; f.Put(theirs("a")) }, failure.Conflict, "may not see it"},
		{"a workload", func(s *FakeSource, _ *FakeTeleport) {
			s.Set(Candidate{Workload: "a", Err: errors.New("a: no port")})
		}, failure.Other, "a: no port"},
		{"a kind", func(s *FakeSource, _ *FakeTeleport) {
			s.Set(Candidate{Workload: "a", Resource: resource.Resource{Kind: resource.KindDatabase, Name: "a"}})
		}, failure.Other, `doesn't register resources of kind "db"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source, teleport := NewFakeSource(container("a")), NewFakeTeleport()
				test.prepare(source, teleport)
				err := newRig(t, source, teleport, nil).Once(t.Context())
				require.ErrorContains(t, err, test.told)
				require.Equal(t, test.kind, failure.KindOf(err))
			})
		})
	}
}

func TestApprovedApply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := crowd(20)
		source.Stop(names(0, 15)...)
		r := newRig(t, source, teleport, nil)
		p, err := r.Plan(t.Context())
		require.NoError(t, err)
		require.Equal(t, 3, p.ExitCode())
		_, _, err = r.Apply(t.Context())
		require.ErrorContains(t, err, p.Hash())
		require.Empty(t, teleport.Writes())

		r = newRig(t, source, teleport, func(o *Options) { o.Store = r.store })
		r.Approve(p.Hash())
		_, result, err := r.Apply(t.Context())
		require.NoError(t, err)
		require.Equal(t, 15, result.Deleted)
	})
}

func TestExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		skipped := Candidate{Workload: "s", Skip: "not enabled", Rules: []Rule{{Name: "enabled", Detail: "no label"}}}
		r := newRig(t, NewFakeSource(named("w", "a"), skipped), NewFakeTeleport(ours("gone")), nil)
		for name, want := range map[string][]plan.Op{"w": {plan.OpCreate}, "a": {plan.OpCreate}, "gone": {plan.OpDelete}, "s": nil} {
			e, err := r.Explain(t.Context(), name)
			require.NoError(t, err)
			var ops []plan.Op
			for _, a := range e.Actions {
				ops = append(ops, a.Op)
			}
			require.Equal(t, want, ops, name)
		}
		e, err := r.Explain(t.Context(), "gone")
		require.NoError(t, err)
		require.Len(t, e.Actions[0].Gates, 7, "every gate up to the reread")
		_, err = r.Explain(t.Context(), "nobody")
		require.Equal(t, failure.NotFound, failure.KindOf(err))
	})
}

func TestAdoptAndPurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file, keep := ours("b"), ours("c")
		file.Labels[resource.LabelSource] = "file/rabbit"
		keep.Labels[resource.LabelKeep] = "true"
		teleport := NewFakeTeleport(theirs("a"), file, keep, theirs("grafana"))
		r := newRig(t, NewFakeSource(container("a")), teleport, nil)

		key := resource.Key{Kind: resource.KindApp, Name: "a"}
		action, err := r.Adopt(t.Context(), key, "", false)
		require.NoError(t, err)
		require.NotEmpty(t, action.Changes)
		require.Equal(t, theirs("a"), teleport.All()["a"], "only shown")
		_, err = r.Adopt(t.Context(), key, "", true)
		require.NoError(t, err)
		require.Equal(t, us, teleport.All()["a"].Owner())
		require.Equal(t, []string{"update a ok"}, r.journal.Words())

		p, _, err := r.Purge(t.Context(), false)
		require.NoError(t, err)
		require.Equal(t, 2, p.Count(plan.OpDelete))
		require.Len(t, teleport.Names(), 4)
		_, result, err := r.Purge(t.Context(), true)
		require.NoError(t, err)
		require.Equal(t, 2, result.Deleted)
		require.Equal(t, []string{"c", "grafana"}, teleport.Names())
	})
}

// Whoever was told that all is done reads it from the same cache as we: a plan that
// counts our own writes in doesn't say that others see them.
func TestConfirmedWhenOthersSeeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teleport := NewFakeTeleport()
		teleport.lag = func() time.Duration { return 2 * time.Second }
		r := newRig(t, NewFakeSource(container("a")), teleport, nil)
		_, result, err := r.Apply(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, result.Created)
		p, err := r.Plan(t.Context())
		require.NoError(t, err)
		require.False(t, p.Changes())
		require.False(t, r.Confirmed())
		after(3 * time.Second)
		_, err = r.Plan(t.Context())
		require.NoError(t, err)
		require.True(t, r.Confirmed())
	})
}

// elsewhere is a lease that another holds for ever.
type elsewhere struct{}

func (elsewhere) Hold(ctx context.Context, _ func(context.Context, func() time.Time) error) error {
	<-ctx.Done()
	return nil
}

// TestPurgeNeverSaysTooMuch has a purge that can't do all that was asked for.
func TestPurgeNeverSaysTooMuch(t *testing.T) {
	t.Run("another holds the lease", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			teleport := NewFakeTeleport(ours("a"))
			r := newRig(t, NewFakeSource(), teleport, func(o *Options) { o.Lease = elsewhere{} })
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			p, _, err := r.Purge(ctx, false)
			require.NoError(t, err, "who only looks needs no lease")
			require.Equal(t, 1, p.Count(plan.OpDelete))
			_, _, err = r.Purge(ctx, true)
			require.ErrorContains(t, err, "0 are")
			require.Equal(t, failure.Transient, failure.KindOf(err))
			require.Equal(t, []string{"a"}, teleport.Names())
		})
	})
	t.Run("the time is over in the middle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			teleport := NewFakeTeleport(ours("a"), ours("b"), ours("c"))
			teleport.delay = time.Second
			r := newRig(t, NewFakeSource(), teleport, func(o *Options) { o.Concurrency = 1 })
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			_, result, err := r.Purge(ctx, true)
			require.Error(t, err)
			require.NotZero(t, result.Deleted)
			require.NotEmpty(t, teleport.Names())
		})
	})
	t.Run("one is changed meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			teleport := NewFakeTeleport(ours("a"), ours("b"))
			teleport.fault = func(op, name string) error {
				if op == "get" && name == "a" {
					teleport.things["a"] = theirs("a")
				}
				return nil
			}
			_, result, err := newRig(t, NewFakeSource(), teleport, nil).Purge(t.Context(), true)
			require.NoError(t, err)
			require.Equal(t, 1, result.Deleted)
			require.Equal(t, 1, result.Skipped)
		})
	})
}

// TestApplyWaitsNoLongerThanItMay has an absent gate that takes longer than the
// caller has time.
func TestApplyWaitsNoLongerThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := crowd(3)
		source.Stop("c00")
		r := newRig(t, source, teleport, func(o *Options) { o.Guard = plan.Guard{AbsentFor: time.Hour} })
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
		defer cancel()
		p, _, err := r.Apply(ctx)
		require.NoError(t, err)
		require.True(t, waits(p))
		require.NoError(t, ctx.Err())
	})
}

func TestAuditLineHasNoSecret(t *testing.T) {
	const secret = "hunter2"
	before := &resource.Resource{Kind: resource.KindKubeCluster, Name: "k", Spec: resource.KubeClusterSpec{Kubeconfig: secret}}
	after := &resource.Resource{Kind: resource.KindKubeCluster, Name: "k", Spec: resource.KubeClusterSpec{Kubeconfig: secret + secret}}
	entry := Entry{
		Service: "rabbit", Op: plan.OpUpdate, Key: after.Key(), Owner: us, Workload: "w", Reason: "it differs from what is wanted",
		Changes: resource.Diff(before, after), Outcome: wordOK, Took: time.Millisecond,
	}
	var text, lines bytes.Buffer
	NewLogAuditor(slog.New(slog.NewTextHandler(&text, nil))).Audit(t.Context(), entry)
	NewLogAuditor(slog.New(slog.NewJSONHandler(&lines, nil))).Audit(t.Context(), entry)
	entry.Outcome, entry.Err = wordRefused, failure.New(failure.Refused, "the role lacks update")
	NewLogAuditor(slog.New(slog.NewJSONHandler(&lines, nil))).Audit(t.Context(), entry)

	require.NotContains(t, text.String()+lines.String(), secret)
	require.Contains(t, text.String(), "spec.kubeconfig: ")
	first, second, _ := strings.Cut(strings.TrimSpace(lines.String()), "\n")
	var line map[string]any
	require.NoError(t, json.Unmarshal([]byte(first), &line))
	require.Equal(t, "update kube_cluster k w ok", strings.Join([]string{
		line["op"].(string), line["kind"].(string), line["name"].(string), line["workload"].(string), line["outcome"].(string),
	}, " "))
	require.Len(t, line["changes"], 1)
	require.NoError(t, json.Unmarshal([]byte(second), &line))
	require.Equal(t, "WARN", line["level"])
	require.Equal(t, "the role lacks update", line["err"])
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := crowd(3)
		metrics := NewMetrics()
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(metrics)
		r := newRig(t, source, teleport, func(o *Options) { o.Metrics = metrics })
		stop := r.start(t)
		after(time.Second)
		source.Stop("c00")
		source.Set(container("new"))
		teleport.Put(theirs("taken"))
		source.Set(container("taken"))
		r.RenewNow("now")
		after(2 * time.Second)
		for metric, want := range map[string]float64{
			"blocked_deletions{absent}":        1,
			"blocked_deletions{budget}":        0,
			"blocked_deletions{keep}":          0,
			"conflicts{}":                      1,
			"discovered{}":                     4,
			"registered{}":                     4,
			"deletions_frozen{}":               0,
			"writes_total{ok create}":          1,
			"writes_total{lease_lost delete}":  0,
			"reread_stops_total{}":             0,
			"last_good_sync_timestamp_seconds": float64(time.Now().UnixMilli()) / 1000,
		} {
			require.InDelta(t, want, gather(t, registry)[metric], 3, metric)
			if want < 10 {
				require.Equal(t, want, gather(t, registry)[metric], metric)
			}
		}
		after(20 * time.Second)
		require.Equal(t, 1.0, gather(t, registry)["writes_total{ok delete}"])
		require.Equal(t, 3.0, gather(t, registry)["registered{}"])
		stop()
	})
}

// gather returns the gauges and counters by name and labels, the service's
// excepted.
func gather(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	all := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, pair := range m.GetLabel() {
				if pair.GetName() != "service" {
					labels = append(labels, pair.GetValue())
				}
			}
			slices.Reverse(labels)
			name := strings.TrimPrefix(family.GetName(), "rollcall_discovery_")
			if name != "last_good_sync_timestamp_seconds" {
				name += "{" + strings.Join(labels, " ") + "}"
			}
			all[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return all
}

func TestAliveTellsOfAHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		teleport := NewFakeTeleport()
		teleport.fault = func(string, string) error { <-release; return nil }
		r := newRig(t, NewFakeSource(container("a")), teleport, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		after(9 * time.Minute)
		require.NoError(t, r.Alive())
		after(2 * time.Minute)
		require.ErrorContains(t, r.Alive(), "while reconciling")
		close(release)
		cancel()
		require.NoError(t, <-done)
	})
}
