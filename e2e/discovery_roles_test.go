package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// TestDiscoveryRoleSuffices has the official tctl create the role that is printed
// for a service with every kind, and the service register, update and delete with
// nothing but that.
func TestDiscoveryRoleSuffices(t *testing.T) {
	t.Parallel()
	for name, more := range map[string][]string{
		"alone":        {"guard: {absent_for: 100ms, absent_reads: 1}"},
		"shared owner": {"guard: {absent_for: 100ms, absent_reads: 1}", "owner: shared/%s", "ha_ttl: 5s", "interval: 1m", "expires: 10m"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRegistrar(t, suite.Cluster(t))
			for i := range more {
				more[i] = strings.ReplaceAll(more[i], "%s", r.name)
			}
			a := r.agent(t, r.everyKind(more...))
			a.employ(t, r.name, nil)
			r.writeEveryKind(t, "one")

			agent := a.run(t)

			r.awaitEveryKind(t, agent, "one")
			r.writeEveryKind(t, "two")
			r.awaitEveryKind(t, agent, "two")
			r.write(t)
			r.awaitEveryKind(t, agent, "")
			stop(t, agent)
		})
	}
}

// writeEveryKind puts an inventory with one resource of each kind in place.
func (r *registrar) writeEveryKind(t *testing.T, host string) {
	t.Helper()
	var entries []any
	for _, k := range kinds() {
		entries = append(entries, k.inventoryEntry(r, host))
	}
	r.writeEntries(t, entries)
}

// awaitEveryKind waits until a resource of each kind points to a host; empty:
// until there's none.
func (r *registrar) awaitEveryKind(t *testing.T, agent *harness.Process, host string) {
	t.Helper()
	for _, k := range kinds() {
		agent.WaitFor(t, patience, k.name+" at "+host, func() error {
			found := k.find(t, r.cluster, k.of(r))
			switch {
			case found == nil && host != "":
				return trace.NotFound("it isn't registered")
			case found != nil && (host == "" || !strings.Contains(k.host(found), host)):
				return trace.BadParameter("it's at %s", k.host(found))
			}
			return nil
		})
	}
}

// TestDiscoveryRoleIsLimited works with the identity that a service with the
// printed role has, by hand: what isn't the service's is out of its reach, because
// the cluster itself says no.
func TestDiscoveryRoleIsLimited(t *testing.T) {
	t.Parallel()
	r := newRegistrar(t, suite.Cluster(t))
	a := r.agent(t, r.everyKind())
	a.employ(t, r.name, nil)
	r.writeEveryKind(t, "one")
	agent := a.run(t)
	r.awaitEveryKind(t, agent, "one")
	registrar, admin := r.asRegistrar(t, agent), r.cluster.Client(t)
	owner := map[string]string{"rollcall/owner": r.name + "/another-host/" + r.name}
	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) {
			theirs, err := k.foreign(types.Metadata{Name: k.of(r) + "-theirs", Labels: owner})
			require.NoError(t, err)
			require.NoError(t, k.create(t.Context(), admin, theirs))
			t.Cleanup(func() { _ = k.remove(t.Context(), admin, theirs) })
			harness.Eventually(t, patience, "the foreign resource", func() error {
				if k.find(t, r.cluster, theirs.GetName()) == nil {
					return trace.NotFound("not there")
				}
				return nil
			})

			seen, err := k.list(t.Context(), registrar)
			require.NoError(t, err)
			require.Len(t, seen, 1, "it sees its own alone")
			requireDenied(t, k.update(t.Context(), registrar, theirs))
			requireDenied(t, k.remove(t.Context(), registrar, theirs))
			another, err := k.foreign(types.Metadata{Name: k.of(r) + "-another", Labels: owner})
			require.NoError(t, err)
			err = k.create(t.Context(), registrar, another)
			if k.freely {
				require.NoError(t, err, "if Teleport asks for labels by now, the warning of `discovery roles` isn't right any more")
				harness.Eventually(t, patience, "the end of the desktop that could be created", func() error {
					return k.remove(t.Context(), admin, another) // the cluster's cache may not know it yet
				})
			} else {
				requireDenied(t, err)
			}
			label, _ := k.find(t, r.cluster, theirs.GetName()).GetLabel("rollcall/owner")
			require.Equal(t, owner["rollcall/owner"], label)
		})
	}
	t.Run("what Teleport doesn't limit", func(t *testing.T) {
		requireUnlimitedEvents(t, registrar, admin, r, owner)
	})
	t.Run("everything else", func(t *testing.T) {
		token, err := types.NewProvisionToken("a-token", types.SystemRoles{types.RoleApp}, time.Now().Add(time.Hour))
		require.NoError(t, err)
		requireDenied(t, registrar.CreateToken(t.Context(), token))
		role, err := admin.GetRole(t.Context(), a.role())
		require.NoError(t, err)
		requireDenied(t, registrar.UpsertRole(t.Context(), role))
		_, err = registrar.AcquireSemaphore(t.Context(), types.AcquireSemaphoreRequest{
			SemaphoreKind: "rollcall", SemaphoreName: r.name, MaxLeases: 1, Expires: time.Now().Add(time.Minute), Holder: "nobody",
		})
		requireDenied(t, err)
		_, err = registrar.GetUser(r.name, false)
		requireDenied(t, err)
	})
	stop(t, agent)
}

// requireUnlimitedEvents holds docs/discovery.md to its word: whoever may read a
// kind is told of every change, whatever the labels, a kubeconfig included.
func requireUnlimitedEvents(t *testing.T, registrar, admin *client.Client, r *registrar, owner map[string]string) {
	t.Helper()
	watch, err := registrar.NewWatcher(t.Context(), types.Watch{Kinds: []types.WatchKind{{Kind: types.KindKubernetesCluster}}})
	require.NoError(t, err)
	defer watch.Close()
	require.Equal(t, types.OpInit, next(t, watch).Type)
	k := kinds()[2]
	theirs, err := k.foreign(types.Metadata{Name: r.name + "-watched", Labels: owner})
	require.NoError(t, err)
	require.NoError(t, k.create(t.Context(), admin, theirs))
	for event := next(t, watch); ; event = next(t, watch) {
		if event.Resource.GetName() != theirs.GetName() {
			continue // another test's
		}
		require.Contains(t, k.host(event.Resource.(types.ResourceWithLabels)), "theirs")
		require.NoError(t, k.remove(t.Context(), admin, theirs))
		return
	}
}

// next is the next event of a watch.
func next(t *testing.T, watch types.Watcher) types.Event {
	t.Helper()
	select {
	case event := <-watch.Events():
		return event
	case <-watch.Done():
		require.NoError(t, watch.Error())
	case <-time.After(patience):
		require.FailNow(t, "no event came")
	}
	return types.Event{}
}

func requireDenied(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	require.True(t, trace.IsAccessDenied(trace.Unwrap(err)) || trace.IsAccessDenied(err), "%v", err)
}
