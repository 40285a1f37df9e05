//go:build rollcall_e2e

package registry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/stretchr/testify/require"

	"rollcall/cluster"
	"rollcall/discovery/registry/dynamic"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

func cleanupContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// refused says if the cluster let a resource be changed or deleted.
func refused[R types.ResourceWithLabels](t *testing.T, store *cluster.Store[R], r R) error {
	t.Helper()
	for what, call := range map[string]func(context.Context, R) error{"update": store.Update, "delete": store.Delete} {
		if err := call(t.Context(), r); failure.KindOf(err) != failure.Refused {
			return fmt.Errorf("%s: %w", what, errors.Join(errors.New("it wasn't refused"), err))
		}
	}
	return nil
}

// TestRoleTooNarrow: a refusal names the rule that is missing.
func TestRoleTooNarrow(t *testing.T) {
	apps, err := dynamic.New(on.as(t, "only-db"), resource.KindApp, owner)
	require.NoError(t, err)
	r := resource.Resource{Kind: resource.KindApp, Name: "never", Spec: resource.AppSpec{URI: "http://localhost"},
		Labels: map[string]string{resource.LabelOwner: owner}}

	// Reading applications is what Teleport lets everybody do; they see nothing
	// without app_labels.
	all, err := apps.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
	for want, err := range map[string]error{
		"creating app/never: the role only-db lacks the rule {resources: [app], verbs: [create]}":     apps.Create(t.Context(), r),
		"acquiring semaphore/rollcall/x: the role only-db lacks the rule {resources: [semaphore], ve": acquire(t, on.as(t, "only-db")),
		"deleting app_server/x: the role only-db lacks the rule {resources: [app_server], verbs: [d":  on.as(t, "only-db").DeleteAppServer(t.Context(), "h", "x"),
		"creating a join token: the role only-db lacks the rule {resources: [token], verbs: [create]": createToken(t, on.as(t, "only-db")),
	} {
		require.Equal(t, failure.Refused, failure.KindOf(err), "%v", err)
		require.ErrorContains(t, err, want)
	}
}

func acquire(t *testing.T, access *cluster.Access) error {
	_, err := access.Semaphore("x", "e2e").Acquire(t.Context(), time.Minute)
	return err
}

func createToken(t *testing.T, access *cluster.Access) error {
	token, err := types.NewProvisionToken("a-secret-name", types.SystemRoles{types.RoleApp}, time.Now().Add(time.Minute))
	require.NoError(t, err)
	err = access.CreateToken(t.Context(), token)
	require.NotContains(t, fmt.Sprint(err), "a-secret-name")
	return err
}

// TestSemaphore: one holder at a time; who comes next gets it when it's given
// back, or when its time is over.
func TestSemaphore(t *testing.T) {
	const ttl = 3 * time.Second
	name := "e2e/" + unique(t, "s")
	first, second := on.as(t, "all").Semaphore(name, "first"), on.admin(t).Semaphore(name, "second")

	held, err := first.Acquire(t.Context(), ttl)
	require.NoError(t, err)
	require.Greater(t, held, ttl/2)
	require.Less(t, held, ttl)
	_, err = second.Acquire(t.Context(), ttl)
	require.Equal(t, failure.Conflict, failure.KindOf(err), "%v", err)

	// Extended, it outlives its first end.
	for range 5 {
		time.Sleep(ttl / 4) // it's time itself that is tested here
		_, err = first.Extend(t.Context(), ttl)
		require.NoError(t, err)
	}
	_, err = second.Acquire(t.Context(), ttl)
	require.Equal(t, failure.Conflict, failure.KindOf(err), "%v", err)

	// Given back, it's free at once.
	require.NoError(t, first.Release(t.Context()))
	require.NoError(t, first.Release(t.Context()))
	began := time.Now()
	_, err = second.Acquire(t.Context(), ttl)
	require.NoError(t, err)

	// Forgotten, it's free when its time is over, and not before.
	var free time.Duration
	eventually(t, "the end of the lease", func() error {
		_, err := first.Acquire(t.Context(), ttl)
		free = time.Since(began)
		return err
	})
	require.Greater(t, free, ttl-time.Second)
	_, err = second.Extend(t.Context(), ttl)
	require.Equal(t, failure.NotFound, failure.KindOf(err), "%v", err)
	require.NoError(t, first.Release(t.Context()))
}
