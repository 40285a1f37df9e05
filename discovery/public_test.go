package discovery

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

// public is a container that asks for a public address.
func public(c Candidate, addr string) Candidate {
	spec := c.Resource.Spec.(resource.AppSpec)
	spec.PublicAddr = addr
	c.Resource.Spec = spec
	return c
}

func publicAddr(r resource.Resource) string { return r.Spec.(resource.AppSpec).PublicAddr }

// A public address moves as soon as the one that had it has given it up, and not
// before that: as long as its update fails, nobody else gets the address.
func TestAPublicAddressMovesWhenItIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := NewFakeSource(public(container("one"), "x.test")), NewFakeTeleport()
		r := newRig(t, source, teleport, nil)
		defer r.start(t)()
		after(5 * time.Second)
		require.Equal(t, "x.test", publicAddr(teleport.All()["one"]))

		refused := true
		teleport.fault = func(op, name string) error {
			if refused && op == "update" {
				return failure.New(failure.Refused, "access denied")
			}
			return nil
		}
		source.Set(public(container("one"), "y.test"))
		source.Set(public(container("two"), "x.test"))
		began := source.Reads()
		after(4 * time.Minute)
		require.Equal(t, []string{"one"}, teleport.Names())
		require.Less(t, source.Reads()-began, 20, "a wish that waits for what fails costs nothing")
		require.Contains(t, r.status().LastError, "app/one: access denied")
		require.Contains(t, r.status().Message, "1 that wait for a name or an address")

		refused = false
		source.Set(public(container("one"), "z.test"))
		after(time.Second)
		require.Equal(t, []string{"one", "two"}, teleport.Names(), "at once, when the first has another")
		require.Equal(t, "z.test", publicAddr(teleport.All()["one"]))
		require.Equal(t, "x.test", publicAddr(teleport.All()["two"]))

		// They swap: three writes, none of which doubles anything.
		source.Set(public(container("one"), "x.test"))
		source.Set(public(container("two"), "z.test"))
		after(time.Second)
		require.Equal(t, "x.test", publicAddr(teleport.All()["one"]))
		require.Equal(t, "z.test", publicAddr(teleport.All()["two"]))
		require.False(t, r.status().Degraded, r.status().Message)
	})
}

// An update that was only begun gives nothing up yet: if its agent never registers,
// the one before it serves the address on, and nobody else gets it.
func TestAPublicAddressMovesWhenItIsServedNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := NewFakeSource(public(container("one"), "x.test")), &starting{FakeTeleport: NewFakeTeleport()}
		r := newRig(t, source, teleport.FakeTeleport, func(o *Options) {
			o.Registries = map[resource.Kind]Registry{resource.KindApp: teleport}
		})
		defer r.start(t)()
		after(5 * time.Second)

		teleport.outgoing.Store(&[]resource.Resource{teleport.All()["one"]})
		source.Set(public(container("one"), "y.test"))
		source.Set(public(container("two"), "x.test"))
		began := source.Reads()
		after(4 * time.Minute)
		require.Equal(t, []string{"one"}, teleport.Names())
		require.Equal(t, "y.test", publicAddr(teleport.All()["one"]), "as it's to be")
		require.Less(t, source.Reads()-began, 20, "a wish that waits costs nothing")
		require.Contains(t, r.status().Message, "1 that wait for a name or an address")

		teleport.outgoing.Store(nil)
		r.Changed()
		after(time.Second)
		require.Equal(t, []string{"one", "two"}, teleport.Names())
		require.Equal(t, "x.test", publicAddr(teleport.All()["two"]))
	})
}

// Somebody registers another application with the public address of ours: its users
// may reach that, so it's an alarm until one of them goes.
func TestAStrangerWithOurPublicAddressIsAnAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, teleport := NewFakeSource(public(container("one"), "x.test")), NewFakeTeleport()
		r := newRig(t, source, teleport, nil)
		defer r.start(t)()
		after(5 * time.Second)
		require.Empty(t, r.status().LastError)

		stranger := theirs("stranger")
		spec := stranger.Spec.(resource.AppSpec)
		spec.PublicAddr = "X.test"
		stranger.Spec = spec
		teleport.Put(stranger)
		after(10 * time.Minute)
		require.Equal(t, []string{"one", "stranger"}, teleport.Names())
		require.True(t, r.status().Degraded)
		require.Contains(t, r.status().LastError, "users of 1 resources may reach another's; the first, app/one: app/stranger has the public_addr x.test, too")
		require.Equal(t, 1, strings.Count(r.log.String(), "Users of a resource may reach another"))
		require.NotContains(t, r.log.String(), "asked for by another")

		teleport.Drop("stranger")
		after(10 * time.Minute)
		require.False(t, r.status().Degraded, r.status().Message)
	})
}

// A single run takes all the steps of such a move.
func TestOnceMovesPublicAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := NewFakeSource(public(container("one"), "x.test"), public(container("two"), "y.test"))
		teleport := NewFakeTeleport()
		r := newRig(t, source, teleport, nil)
		require.NoError(t, r.Once(t.Context()))
		source.Set(public(container("one"), "y.test"))
		source.Set(public(container("two"), "x.test"))
		source.Set(public(container("three"), "z.test"))
		require.NoError(t, r.Once(t.Context()))
		require.Equal(t, "y.test", publicAddr(teleport.All()["one"]))
		require.Equal(t, "x.test", publicAddr(teleport.All()["two"]))

		teleport.fault = func(op, name string) error {
			if op == "update" {
				return failure.New(failure.Refused, "access denied")
			}
			return nil
		}
		source.Set(public(container("one"), "w.test"))
		source.Set(public(container("four"), "y.test"))
		require.ErrorContains(t, r.Once(t.Context()), "app/one: access denied")
		require.NotContains(t, teleport.Names(), "four")
	})
}
