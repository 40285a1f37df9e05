package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/gravitational/teleport/api/types"
	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// TestCARotation rotates the host and the user authority, phase by phase, below
// a running agent whose certificates aren't due for hours. It follows each
// phase without a restart.
func TestCARotation(t *testing.T) {
	t.Parallel()
	for _, authority := range []types.CertAuthType{types.HostCA, types.UserCA} {
		t.Run(string(authority), func(t *testing.T) {
			t.Parallel()
			c := suite.NewCluster(t, harness.ClusterOptions{})
			s := newStageOn(t, c)
			agent := s.start(t, s.document(t, document{
				outputs: s.application("out", "specific_tls_naming: true,") + s.output("identity", "ssh", ""),
			}))
			s.awaitFile(t, agent, "out")
			s.awaitFile(t, agent, "ssh")
			file := "teleport-" + string(authority) + "-ca.crt"
			old := authorities(t, s, file)
			require.Len(t, old, 1)

			c.Rotate(t, authority, "init")
			both := s.awaitAuthorities(t, agent, file, 2, "")
			require.Contains(t, both, old[0])

			// The new key signs from here on.
			c.Rotate(t, authority, "update_clients")
			swapped := s.awaitAuthorities(t, agent, file, 2, both[0])
			require.ElementsMatch(t, both, swapped)
			if authority == types.UserCA {
				s.awaitIssuer(t, agent, swapped[0])
			}
			s.eventuallyFetches(t, agent)

			c.Rotate(t, authority, "update_servers")
			s.eventuallyFetches(t, agent)

			generation := c.Generation(t, s.bot)
			c.Rotate(t, authority, "standby")
			after := s.awaitAuthorities(t, agent, file, 1, "")
			require.NotEqual(t, old, after)

			s.awaitGeneration(t, agent, generation+1)
			s.eventuallyFetches(t, agent)
			require.Empty(t, c.Locks(t, s.bot))
			require.True(t, agent.Running())
			// A start from what is stored: it has the new authorities, too.
			stop(t, agent)
			agent = s.start(t, s.document(t, document{times: everySecond}))
			s.awaitGeneration(t, agent, c.Generation(t, s.bot)+1)
			s.eventuallyFetches(t, agent)
			stop(t, agent)
		})
	}
}

// authorities lists the certificates of a CA file as raw bytes in a string.
func authorities(t *testing.T, s *stage, file string) []string {
	t.Helper()
	certs, err := certificates(s.out(file))
	require.NoError(t, err)
	var all []string
	for _, cert := range certs {
		all = append(all, string(cert.Raw))
	}
	return all
}

// awaitAuthorities waits until both outputs have that many certificates in a CA
// file, and the first is another than notFirst.
func (s *stage) awaitAuthorities(t *testing.T, agent *harness.Process, file string, count int, notFirst string) []string {
	t.Helper()
	agent.WaitFor(t, patience, fmt.Sprintf("%d authorities in %s", count, file), func() error {
		now, err := certificates(s.out(file))
		if err != nil {
			return err
		}
		if len(now) != count {
			return fmt.Errorf("there are %d", len(now))
		}
		if string(now[0].Raw) == notFirst {
			return errors.New("the order is still the old one")
		}
		return s.sameInBoth(file)
	})
	return authorities(t, s, file)
}

// sameInBoth compares the CA files of the two outputs.
func (s *stage) sameInBoth(file string) error {
	app, err := os.ReadFile(s.out(file))
	if err != nil {
		return err
	}
	ssh, err := os.ReadFile(filepath.Join(s.place("ssh"), file))
	if err != nil {
		return err
	}
	if string(app) != string(ssh) {
		return errors.New("the two outputs differ")
	}
	return nil
}

// awaitIssuer waits until the application's certificate is signed by an
// authority.
func (s *stage) awaitIssuer(t *testing.T, agent *harness.Process, raw string) {
	t.Helper()
	agent.WaitFor(t, patience, "a certificate of the new authority", func() error {
		cert, err := certificate(s.out("tlscert"))
		if err != nil {
			return err
		}
		cas, err := certificates(s.out("teleport-user-ca.crt"))
		if err != nil {
			return err
		}
		for _, ca := range cas {
			if string(ca.Raw) == raw {
				return cert.CheckSignatureFrom(ca)
			}
		}
		return errors.New("the authority is gone")
	})
}

// TestCARotationWhileStopped rotates below an agent that doesn't run: the files
// aren't due when it's back, and are renewed for their authorities.
func TestCARotationWhileStopped(t *testing.T) {
	t.Parallel()
	c := suite.NewCluster(t, harness.ClusterOptions{})
	s := newStageOn(t, c)
	config := s.document(t, document{outputs: s.application("out", "") + s.output("identity", "ssh", "")})
	s.oneshot(t, config)
	c.Rotate(t, types.UserCA, "init")

	agent := s.start(t, config)

	s.awaitAuthorities(t, agent, "teleport-user-ca.crt", 2, "")
	require.EqualValues(t, 1, c.Generation(t, s.bot), "the identity trusts host authorities alone, and wasn't due")
	s.eventuallyFetches(t, agent)

	// With the host authorities it's the identity's own roots that are old.
	stop(t, agent)
	c.Rotate(t, types.HostCA, "init")
	agent = s.start(t, config)
	s.awaitAuthorities(t, agent, "teleport-host-ca.crt", 2, "")
	s.awaitGeneration(t, agent, 2)
	stop(t, agent)
}
