//go:build rollcall_e2e

package registry_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/cluster"
	"rollcall/discovery/registry/dynamic"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

// kindStage is one kind of resources with everything that a test needs.
type kindStage struct {
	fixture
	admin *cluster.Access
	// ours has just the role that registry.Role makes; wide sees everything.
	ours, wide *dynamic.Registry
}

// forEachKind runs a test for every kind.
func forEachKind(t *testing.T, test func(t *testing.T, s kindStage)) {
	for _, f := range fixtures() {
		t.Run(string(f.kind), func(t *testing.T) {
			s := kindStage{fixture: f, admin: on.admin(t)}
			var err error
			s.ours, err = dynamic.New(on.as(t, "all"), f.kind, owner)
			require.NoError(t, err)
			s.wide, err = dynamic.New(s.admin, f.kind, owner)
			require.NoError(t, err)
			test(t, s)
		})
	}
}

// resource makes one of ours.
func (s kindStage) resource(t *testing.T, spec resource.Spec) resource.Resource {
	t.Helper()
	r, err := dynamic.Canonical(resource.Resource{
		Kind: s.kind, Name: unique(t, "r"), Spec: spec,
		Labels: map[string]string{
			resource.LabelOwner: owner, resource.LabelSource: "e2e", resource.LabelWorkload: "web/api", "env": "test",
		},
	})
	require.NoError(t, err)
	return r
}

// foreign makes a resource of somebody else's, which is removed after the test.
func (s kindStage) foreign(t *testing.T, name string, labels map[string]string) resource.Resource {
	t.Helper()
	theirs, err := dynamic.New(s.admin, s.kind, labels[resource.LabelOwner])
	require.NoError(t, err)
	r, err := dynamic.Canonical(resource.Resource{Kind: s.kind, Name: name, Spec: s.least, Labels: labels, Description: "Somebody else's."})
	require.NoError(t, err)
	require.NoError(t, theirs.Create(t.Context(), r))
	t.Cleanup(func() { require.NoError(t, theirs.Delete(cleanupContext(t), r)) })
	eventually(t, "the foreign resource", func() error { return s.is(t, r) })
	return r
}

// is says how what is registered under r's name differs from r, to whoever sees
// everything.
func (s kindStage) is(t *testing.T, r resource.Resource) error {
	t.Helper()
	now, err := s.wide.Get(t.Context(), r.Name)
	if err != nil {
		return err
	}
	if changes := resource.Diff(&now, &r); len(changes) > 0 {
		return fmt.Errorf("%v", changes)
	}
	if !now.Expires.Equal(r.Expires) {
		return fmt.Errorf("it expires at %v in place of %v", now.Expires, r.Expires)
	}
	return nil
}

// listed waits until the list has r just as it is.
func (s kindStage) listed(t *testing.T, r resource.Resource) {
	t.Helper()
	eventually(t, r.Key().String()+" in the list", func() error {
		all, err := s.ours.List(t.Context())
		if err != nil {
			return err
		}
		for _, listed := range all {
			if listed.Name != r.Name {
				continue
			}
			if changes := resource.Diff(&listed, &r); len(changes) > 0 || !resource.Equal(listed, r) {
				return fmt.Errorf("it differs: %v", changes)
			}
			if !listed.Expires.Equal(r.Expires) {
				return fmt.Errorf("it expires at %v in place of %v", listed.Expires, r.Expires)
			}
			return nil
		}
		return errors.New("it isn't there")
	})
}

// gone waits until nobody sees the name any more.
func (s kindStage) gone(t *testing.T, name string) {
	t.Helper()
	eventually(t, "the end of "+name, func() error {
		if _, err := s.wide.Get(t.Context(), name); failure.KindOf(err) != failure.NotFound {
			return fmt.Errorf("it's there still (%v)", err)
		}
		return nil
	})
}

// keep removes a resource after the test.
func (s kindStage) keep(t *testing.T, r resource.Resource) {
	t.Cleanup(func() { require.NoError(t, s.wide.Delete(cleanupContext(t), r)) })
}

// TestCreate: what is created is listed just as it was wanted, and a second
// comparison would find nothing to do.
func TestCreate(t *testing.T) {
	forEachKind(t, func(t *testing.T, s kindStage) {
		for name, spec := range map[string]resource.Spec{"least": s.least, "full": s.full} {
			t.Run(name, func(t *testing.T) {
				r := s.resource(t, spec)
				r.Description = "Made by a test: é \"quoted\" {{braces}}"
				r.Expires = time.Now().Add(time.Hour).UTC().Truncate(time.Second)
				s.keep(t, r)

				require.NoError(t, s.ours.Create(t.Context(), r))

				s.listed(t, r)
				got, err := s.ours.Get(t.Context(), r.Name)
				require.NoError(t, err)
				require.True(t, resource.Equal(got, r))
				canonical, err := dynamic.Canonical(got)
				require.NoError(t, err)
				require.Empty(t, resource.Diff(&got, &canonical))

				// An answer that was lost: the same once more is no conflict.
				require.NoError(t, s.ours.Create(t.Context(), r))
				// Anything else is.
				another := r.Clone()
				another.Description = "Something else."
				require.Equal(t, failure.Conflict, failure.KindOf(s.ours.Create(t.Context(), another)))
				s.listed(t, r)
			})
		}
	})
}

// TestUpdate: every field can be changed and taken away, and changed back.
func TestUpdate(t *testing.T) {
	forEachKind(t, func(t *testing.T, s kindStage) {
		r := s.resource(t, s.full)
		r.Expires = time.Now().Add(time.Hour).UTC().Truncate(time.Second)
		s.keep(t, r)
		require.NoError(t, s.ours.Create(t.Context(), r))
		s.listed(t, r)

		changed := r.Clone()
		changed.Spec = s.other
		changed.Description = "Changed."
		changed.Expires = time.Time{}
		delete(changed.Labels, "env")
		changed.Labels["team"] = "b"
		changed, err := dynamic.Canonical(changed)
		require.NoError(t, err)
		for _, wanted := range []resource.Resource{changed, r} {
			require.NoError(t, s.ours.Update(t.Context(), wanted))
			s.listed(t, wanted)
			eventually(t, "as wanted, to everybody", func() error { return s.is(t, wanted) })
		}
		absent := s.resource(t, s.least)
		require.Equal(t, failure.NotFound, failure.KindOf(s.ours.Update(t.Context(), absent)))
	})
}

// TestDeleteAndDrift: what others change is seen and put right, what they add
// stays, what they delete is missed; a deletion is one, also the second time.
func TestDeleteAndDrift(t *testing.T) {
	forEachKind(t, func(t *testing.T, s kindStage) {
		r := s.resource(t, s.full)
		s.keep(t, r)
		require.NoError(t, s.ours.Create(t.Context(), r))
		s.listed(t, r)

		s.tamper(t, s.admin, r.Name)
		eventually(t, "the drift", func() error {
			now, err := s.ours.Get(t.Context(), r.Name)
			if err == nil && resource.Equal(now, r) {
				err = errors.New("no difference")
			}
			return err
		})
		require.NoError(t, s.ours.Update(t.Context(), r))
		s.listed(t, r)
		require.True(t, s.untouched(t, s.admin, r.Name), "what we have no words for must stay")

		require.NoError(t, s.wide.Delete(t.Context(), r))
		s.gone(t, r.Name)
		require.NoError(t, s.ours.Create(t.Context(), r))
		s.listed(t, r)

		require.NoError(t, s.ours.Delete(t.Context(), r))
		s.gone(t, r.Name)
		_, err := s.ours.Get(t.Context(), r.Name)
		require.Equal(t, failure.NotFound, failure.KindOf(err), "%v", err)
		require.NoError(t, s.ours.Delete(t.Context(), r))
	})
}

// TestForeign: what isn't ours can't be seen, changed or deleted; the cluster
// itself sees to that with just the role that we print. And if the role were
// wide, we'd refuse it ourselves.
func TestForeign(t *testing.T) {
	forEachKind(t, func(t *testing.T, s kindStage) {
		for name, labels := range map[string]map[string]string{
			"unlabelled": {"env": "prod"},
			"another's":  {resource.LabelOwner: "other-bot/other-host/other", "env": "prod"},
		} {
			t.Run(name, func(t *testing.T) {
				theirs := s.foreign(t, unique(t, "f"), labels)
				mine := s.resource(t, s.full)
				mine.Name = theirs.Name

				all, err := s.ours.List(t.Context())
				require.NoError(t, err)
				require.False(t, slices.ContainsFunc(all, func(r resource.Resource) bool { return r.Name == theirs.Name }))
				// Of desktops the cluster doesn't even tell that one is there.
				hidden := failure.Refused
				if s.kind == resource.KindWindowsDesktop {
					hidden = failure.NotFound
				}
				_, err = s.ours.Get(t.Context(), theirs.Name)
				require.Equal(t, hidden, failure.KindOf(err), "%v", err)
				if s.kind != resource.KindWindowsDesktop { // whose names needn't be unique
					err = s.ours.Create(t.Context(), mine)
					require.Equal(t, failure.Conflict, failure.KindOf(err), "%v", err)
					require.ErrorContains(t, err, "may not see")
				}
				require.Equal(t, hidden, failure.KindOf(s.ours.Update(t.Context(), mine)))
				err = s.ours.Delete(t.Context(), mine)
				if hidden == failure.Refused {
					require.Equal(t, failure.Refused, failure.KindOf(err), "%v", err)
					require.ErrorContains(t, err, "it's registered, but the role all lacks a spec.allow."+s.field)
					require.ErrorContains(t, err, resource.LabelOwner+": "+owner)
				} else {
					require.NoError(t, err)
				}

				if s.kind != resource.KindWindowsDesktop {
					err = s.wide.Create(t.Context(), mine)
					require.Equal(t, failure.Conflict, failure.KindOf(err), "%v", err)
					require.ErrorContains(t, err, "the name is taken: it")
				}
				require.Equal(t, failure.Conflict, failure.KindOf(s.wide.Update(t.Context(), mine)))
				require.Equal(t, failure.Conflict, failure.KindOf(s.wide.Delete(t.Context(), mine)))

				require.NoError(t, s.is(t, theirs), "nothing of it may have changed")
			})
		}
	})
}

// TestServerEnforcesTheLimit goes past the registry's own care: with just the
// role that we print, the cluster refuses to touch what isn't ours.
func TestServerEnforcesTheLimit(t *testing.T) {
	forEachKind(t, func(t *testing.T, s kindStage) {
		theirs := s.foreign(t, unique(t, "f"), map[string]string{"env": "prod"})
		taken := theirs.Clone()
		taken.Labels = maps.Clone(theirs.Labels)
		taken.Labels[resource.LabelOwner] = owner
		raw, err := dynamic.NewAdopting(on.as(t, "all"), s.kind, owner)
		require.NoError(t, err)

		// It isn't even seen …
		require.Contains(t, []failure.Kind{failure.NotFound, failure.Refused}, failure.KindOf(raw.Update(t.Context(), taken)))
		// … and to who sees it, and then tries, the cluster says no.
		require.NoError(t, limited(t, s, theirs.Name))
		require.NoError(t, s.is(t, theirs))

		// Nothing of ours can be given away, or made for others.
		given := s.resource(t, s.least)
		s.keep(t, given)
		require.NoError(t, s.ours.Create(t.Context(), given))
		s.listed(t, given)
		lost := given.Clone()
		lost.Labels[resource.LabelOwner] = "somebody-else"
		err = s.ours.Update(t.Context(), lost)
		require.Equal(t, failure.Refused, failure.KindOf(err), "%v", err)
		require.ErrorContains(t, err, "the role all lacks a spec.allow."+s.field+" that matches the resource's labels {")
		require.NoError(t, s.is(t, given))
	})
}

// limited tries to change and delete a foreign resource with the label-limited
// role by calls that don't look first.
func limited(t *testing.T, s kindStage, name string) error {
	access := on.as(t, "all")
	switch s.kind {
	case resource.KindApp:
		return refused(t, access.Apps(), one(t, s.admin.Apps(), name))
	case resource.KindDatabase:
		return refused(t, access.Databases(), one(t, s.admin.Databases(), name))
	case resource.KindKubeCluster:
		return refused(t, access.KubeClusters(), one(t, s.admin.KubeClusters(), name))
	default:
		return refused(t, access.WindowsDesktops(), one(t, s.admin.WindowsDesktops(), name))
	}
}

// TestAdopt: with an administrator's identity a resource becomes ours, and what
// we have no words for stays.
func TestAdopt(t *testing.T) {
	forEachKind(t, func(t *testing.T, s kindStage) {
		r := s.resource(t, s.full)
		theirs := r.Clone()
		theirs.Labels = map[string]string{"env": "prod"}
		by, err := dynamic.New(s.admin, s.kind, "")
		require.NoError(t, err)
		require.NoError(t, by.Create(t.Context(), theirs))
		s.keep(t, r)
		eventually(t, "the foreign resource", func() error { return s.is(t, theirs) })
		s.tamper(t, s.admin, r.Name)
		eventually(t, "the change by hand", func() error {
			if !s.untouched(t, s.admin, r.Name) {
				return errors.New("not seen yet")
			}
			return nil
		})
		adopting, err := dynamic.NewAdopting(s.admin, s.kind, owner)
		require.NoError(t, err)

		require.NoError(t, adopting.Update(t.Context(), r))

		s.listed(t, r)
		require.True(t, s.untouched(t, s.admin, r.Name))
	})
}
