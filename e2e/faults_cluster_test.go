package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rollcall/e2e/harness"
)

// The host's clock is set wrong in unit tests only (identity, outputs): a
// statically linked Go program reads it past what libfaketime replaces.

// smallDisk mounts a file system of one MiB at path. fill takes all of its
// space, and free gives it back.
func smallDisk(t *testing.T, path string) (fill, free func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may mount a small file system")
	}
	require.NoError(t, os.MkdirAll(path, 0o700))
	require.NoError(t, unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=1m,mode=0700"))
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	filler := filepath.Join(path, "filler")
	fill = func() {
		f, err := os.Create(filler)
		require.NoError(t, err)
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		require.ErrorIs(t, err, unix.ENOSPC)
	}
	return fill, func() { require.NoError(t, os.Remove(filler)) }
}

func TestDestinationDiskFull(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	// The set's own directory lies on the disk, so that the filler isn't in it.
	disk := filepath.Join(s.dir, "disk")
	fill, free := smallDisk(t, disk)
	agent := s.start(t, s.document(t, document{outputs: fmt.Sprintf(
		"  - {type: application, app_name: %s, specific_tls_naming: true, destination: {type: directory, path: %s}}\n",
		s.app.Name, s.place("disk/out"))}))
	s.awaitFile(t, agent, "disk/out")
	old := s.serial(t, "disk/out")

	fill()
	agent.Signal(t, syscall.SIGHUP)
	agent.WaitForLog(t, patience, "there's no space (or quota) left to write")
	require.NoError(t, whole(s.place("disk/out"), applicationFiles))
	require.Equal(t, old, s.serial(t, "disk/out"))
	s.fetches(t, "disk/out")

	free()
	s.awaitSerial(t, agent, "disk/out", old)
	require.NoError(t, whole(s.place("disk/out"), applicationFiles))
	s.fetches(t, "disk/out")
}

func TestStorageDiskFull(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	fill, free := smallDisk(t, s.storage())
	agent := s.start(t, s.document(t, document{}))
	s.awaitFile(t, agent, "out")
	old, generation := s.serial(t, "out"), s.cluster.Generation(t, s.bot)

	fill()
	agent.Signal(t, syscall.SIGHUP)
	agent.WaitForLog(t, patience, "can't take a new identity")
	require.Equal(t, generation, s.cluster.Generation(t, s.bot), "the cluster was asked for what can't be stored")
	s.awaitSerial(t, agent, "out", old) // the outputs don't need the storage

	free()
	s.awaitGeneration(t, agent, generation+1)
	stop(t, agent)
	left, err := readStorage(s.storage())
	require.NoError(t, err)
	require.Equal(t, s.cluster.Generation(t, s.bot), left.generation)
	require.Empty(t, s.cluster.Locks(t, s.bot))
}

// TestFrozenCluster stops the cluster in the middle of renewals, for longer
// than any call's timeout: connections stay open, and nobody answers.
func TestFrozenCluster(t *testing.T) {
	t.Parallel()
	s := newStageOn(t, suite.NewCluster(t, harness.ClusterOptions{}))
	agent := s.start(t, s.document(t, document{}))
	s.awaitFile(t, agent, "out")
	old := s.serial(t, "out")

	s.cluster.Pause(t)
	began := time.Now()
	agent.Signal(t, syscall.SIGHUP)
	agent.WaitForLog(t, 2*patience, "The identity couldn't be renewed; the current one serves on.")
	t.Logf("frozen for %v", time.Since(began).Round(time.Second))
	s.cluster.Resume(t)

	agent.Signal(t, syscall.SIGHUP)
	s.awaitSerial(t, agent, "out", old)
	s.fetches(t, "out")
	// The request that was in the server's hands may have been carried out: the
	// agent finds out, and presents nothing stale.
	agent.WaitFor(t, 2*patience, "the identity's verdict", func() error {
		log := agent.Stderr.String()
		if at := strings.LastIndex(log, "couldn't be renewed"); at >= 0 && strings.Contains(log[at:], saidRenewed) {
			t.Log("the renewal hadn't been carried out")
			return nil
		}
		if strings.Contains(log, saidLost) {
			t.Log("the renewal had been carried out, and its reply was lost")
			return nil
		}
		return errors.New("neither renewed nor known to be lost")
	})
	require.Empty(t, s.cluster.Locks(t, s.bot))
	stop(t, agent)
}

// TestRestartOfTheClusterDuringIssuance restarts proxy and auth when the first
// of many outputs has been written.
func TestRestartOfTheClusterDuringIssuance(t *testing.T) {
	t.Parallel()
	const outputs = 20
	s := newStageOn(t, suite.NewCluster(t, harness.ClusterOptions{}))
	s.oneshot(t, s.document(t, document{outputs: s.output("identity", "id", "")}))
	var many strings.Builder
	for i := range outputs {
		many.WriteString(s.application(fmt.Sprint("out", i), ""))
	}
	agent := s.start(t, s.document(t, document{outputs: many.String()}))
	written := func() (n int) {
		for i := range outputs {
			if _, err := os.Stat(filepath.Join(s.place(fmt.Sprint("out", i)), "tlscert")); err == nil {
				n++
			}
		}
		return n
	}
	agent.WaitFor(t, patience, "the first output", func() error {
		if written() == 0 {
			return errors.New("none yet")
		}
		return nil
	})

	s.cluster.Kill()
	before := written()
	s.cluster.Start(t)

	agent.WaitFor(t, 2*patience, "all outputs", func() error {
		if n := written(); n < outputs {
			return fmt.Errorf("%d of %d", n, outputs)
		}
		return nil
	})
	t.Logf("%d of %d outputs had been written when the cluster went away", before, outputs)
	s.cluster.WaitForApp(t, s.app.Name)
	for i := range outputs {
		harness.Eventually(t, patience, "the application's answer", func() error {
			return s.tryPair(t, s.place(fmt.Sprint("out", i)))
		})
	}
	require.Empty(t, s.cluster.Locks(t, s.bot))
}

func TestDeletedSessionIsReplaced(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	agent := s.start(t, s.document(t, document{}))
	s.awaitFile(t, agent, "out")
	old := s.serial(t, "out")

	dead := s.deleteSessions(t)
	require.Len(t, dead, 1)
	agent.Signal(t, syscall.SIGHUP)

	s.awaitSerial(t, agent, "out", old)
	s.fetches(t, "out")
	fresh := s.cluster.AppSessions(t, s.bot.User)
	require.Len(t, fresh, 1)
	require.NotEqual(t, dead[0], fresh[0].GetName())
}

// deleteSessions deletes the bot's application sessions, as an administrator may,
// and returns their names once the cluster has forgotten them.
func (s *stage) deleteSessions(t *testing.T) (names []string) {
	t.Helper()
	admin := s.cluster.Client(t)
	for _, session := range s.cluster.AppSessions(t, s.bot.User) {
		names = append(names, session.GetName())
	}
	for _, name := range names {
		require.NoError(t, admin.DeleteAppSession(t.Context(), types.DeleteAppSessionRequest{SessionID: name}))
	}
	for _, name := range names {
		// The list comes from the backend; the agent, like this, asks the cache.
		harness.Eventually(t, patience, "the end of the session", func() error {
			_, err := admin.GetAppSession(t.Context(), types.GetAppSessionRequest{SessionID: name})
			if trace.IsNotFound(err) {
				return nil
			}
			return fmt.Errorf("it's still there (%w)", err)
		})
	}
	return names
}

func TestLockedBotSaysSoAndGoesOnAfterwards(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	agent := s.start(t, s.document(t, document{}))
	s.awaitFile(t, agent, "out")

	s.cluster.Lock(t, s.bot, "locked by a test")
	agent.WaitFor(t, patience, "the refusal", func() error {
		agent.Signal(t, syscall.SIGHUP) // the Auth Service notices a lock a moment later
		return saidAny(agent, "a lock is in force on the bot", "the bot is locked (`tctl get locks`)")
	})
	require.True(t, agent.Running())
	old, generation := s.serial(t, "out"), s.cluster.Generation(t, s.bot)

	s.cluster.Unlock(t, s.bot)
	// Nobody tells the agent: it goes on by itself.
	s.awaitGeneration(t, agent, generation+1)
	s.awaitSerial(t, agent, "out", old)
	harness.Eventually(t, patience, "the application's answer", func() error { return s.tryPair(t, s.place("out")) })
	stop(t, agent)
}
