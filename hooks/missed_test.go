package hooks

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

// storage keeps files in memory.
type storage struct {
	mu    sync.Mutex
	files map[string][]byte
	fails error
}

func (s *storage) ReadFile(name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return data, nil
}

func (s *storage) WriteFile(name string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return s.fails
	}
	s.files[name] = data
	return nil
}

func newStorage() *storage { return &storage{files: map[string][]byte{}} }

// host is a machine on which an agent is started again and again.
type host struct {
	*storage
	// serial is of the set in place; empty: there's none.
	serial string
	jobs   stubJobs
	hooks  []Options
}

// agent starts one; it's ended by what is returned, as a stop or a crash does.
func (h *host) agent(t *testing.T) (g *rig, end func()) {
	t.Helper()
	g = newRig(t, RunnerOptions{Hooks: h.hooks, Interval: 20 * time.Minute, Current: func(context.Context) (Change, error) {
		if h.serial == "" {
			return Change{}, failure.New(failure.NotFound, "nothing")
		}
		return Change{Output: "grafana", Serial: h.serial, Files: []string{"key", "tlscert"}}, nil
	}})
	g.options.Ledger = OpenLedger(h.storage, []string{"grafana"}, g.options.Log)
	g.Runner.jobs = &h.jobs
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	synctest.Wait()
	return g, func() {
		cancel()
		require.NoError(t, <-ended)
	}
}

// put puts a set in place, and tells the runner of it.
func (h *host) put(g *rig, serial string) {
	h.serial = serial
	g.Changed(Change{Serial: serial, Reason: "due"})
	synctest.Wait()
}

// ran returns the jobs since the last call.
func (h *host) ran() string {
	h.jobs.mu.Lock()
	defer h.jobs.mu.Unlock()
	done := strings.Join(h.jobs.done, ", ")
	h.jobs.done = nil
	return done
}

func newHost() *host {
	return &host{storage: newStorage(), hooks: []Options{{ReloadUnit: "a.service"}, {ReloadUnit: "b.service"}}}
}

const both = "reload a.service, reload b.service"

func TestNothingIsMadeUpForThatWasToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		g, end := h.agent(t)
		h.put(g, "1")
		require.Equal(t, both, h.ran())
		end()
		for range 3 {
			_, end = h.agent(t)
			require.Empty(t, h.ran(), "a restart that changes nothing")
			end()
		}
	})
}

// TestHooksOfASetThatNobodyWasToldOf is of an agent that was killed between a
// write and the hooks, the first write too.
func TestHooksOfASetThatNobodyWasToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		_, end := h.agent(t)
		end()
		for _, h.serial = range []string{"1", "2"} {
			g, end := h.agent(t)
			require.Equal(t, both, h.ran())
			_, _, detail := g.said.last()
			require.Equal(t, "all hooks ran: missed before the start", detail)
			end()
			_, end = h.agent(t)
			require.Empty(t, h.ran())
			end()
		}
	})
}

// TestOnlyWhatDidNotWorkIsMadeUpFor has b fail, and the agent stop between two
// attempts, and after it has given up.
func TestOnlyWhatDidNotWorkIsMadeUpFor(t *testing.T) {
	for name, wait := range map[string]time.Duration{"between attempts": 0, "given up": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost()
				broken := true
				h.jobs.answer = func(_ int, unit string) error {
					if unit == "b.service" && broken {
						return errors.New("not now")
					}
					return nil
				}
				g, end := h.agent(t)
				h.put(g, "1")
				time.Sleep(wait)
				require.Equal(t, 1, strings.Count(h.ran(), "a.service"))
				end()
				broken = false
				_, end = h.agent(t)
				require.Equal(t, "reload b.service", h.ran())
				end()
				_, end = h.agent(t)
				require.Empty(t, h.ran())
				end()
			})
		})
	}
}

// TestACutOffHookIsMadeUpFor stops the agent while a hook runs: that one and
// those after it run at the next start.
func TestACutOffHookIsMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.hooks = append(h.hooks, Options{RestartUnit: "c.service"})
		h.jobs.answer = func(n int, unit string) error {
			if unit == "b.service" && n == 2 {
				time.Sleep(time.Minute)
				return errors.New("cut off")
			}
			return nil
		}
		g, end := h.agent(t)
		h.put(g, "1")
		end() // waits for the hook
		require.Equal(t, both, h.ran())
		_, end = h.agent(t)
		require.Equal(t, "reload b.service, restart c.service", h.ran())
		end()
	})
}

// TestANewSetGoesFirst: what was missed is part of it.
func TestANewSetGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.jobs.answer = func(int, string) error { return errors.New("not now") }
		g, end := h.agent(t)
		h.put(g, "1")
		end()
		h.jobs.answer = nil
		h.ran()
		g = newRig(t, RunnerOptions{Hooks: h.hooks, Current: func(context.Context) (Change, error) { return Change{Serial: "1"}, nil }})
		g.options.Ledger = OpenLedger(h.storage, []string{"grafana"}, g.options.Log)
		g.Runner.jobs = &h.jobs
		g.Changed(Change{Serial: "2", Reason: "due"})
		g.start(t)
		synctest.Wait()
		require.Equal(t, both, h.ran())
		e, known := g.options.Ledger.last("grafana")
		require.True(t, known)
		require.Equal(t, entry{Serial: "2"}, e)
	})
}

// TestHooksThatAreNew haven't missed what was there before them, also if there
// were hooks once.
func TestHooksThatAreNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.serial = "1"
		_, end := h.agent(t)
		require.Empty(t, h.ran())
		end()
		g := newRig(t, RunnerOptions{})
		OpenLedger(h.storage, nil, g.options.Log).note("another", entry{Serial: "7"}) // without hooks for a while
		h.serial = "2"
		_, end = h.agent(t)
		require.Empty(t, h.ran())
		end()
	})
}

func TestLedgerThatCanNotBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.fails = errors.New("the disk is full")
		g, end := h.agent(t)
		h.put(g, "1")
		require.Equal(t, both, h.ran(), "the hooks run all the same")
		require.Contains(t, g.log.String(), "they may run once more at the next start")
		end()
		h.fails = nil
		h.files[ledgerName] = []byte("{")
		g, end = h.agent(t)
		require.Contains(t, g.log.String(), "What hooks were told of can't be read")
		require.Empty(t, h.ran())
		end()
	})
}

// TestMissedProgramsOfADirectory runs those that failed, and all if the
// directory couldn't be read.
func TestMissedProgramsOfADirectory(t *testing.T) {
	dir, notes := folder(t, "10-first", "20-second")
	require.NoError(t, os.Chmod(filepath.Join(dir, "20-second"), 0o777))
	files := newStorage()
	start := func() *rig {
		g := newRig(t, RunnerOptions{Directory: dir, Current: func(context.Context) (Change, error) { return Change{Serial: "1"}, nil }})
		g.options.Ledger = OpenLedger(files, []string{"grafana"}, g.options.Log)
		return g
	}
	g := start()
	g.Changed(Change{Serial: "1"})
	require.Error(t, g.Once(t.Context()))
	require.Equal(t, "10-first\n", content(notes))
	require.NoError(t, os.Chmod(filepath.Join(dir, "20-second"), 0o755))
	g = start()
	g.makeUp(t.Context())
	change, ok := g.take()
	require.True(t, ok)
	require.True(t, g.serve(t.Context(), change))
	require.Equal(t, "10-first\n20-second\n", content(notes))

	require.NoError(t, os.Rename(dir, dir+"-gone"))
	g = start()
	g.Changed(Change{Serial: "1"})
	require.Error(t, g.Once(t.Context()))
	require.NoError(t, os.Rename(dir+"-gone", dir))
	g = start()
	g.makeUp(t.Context())
	change, ok = g.take()
	require.True(t, ok)
	require.True(t, g.serve(t.Context(), change))
	require.Equal(t, "10-first\n20-second\n10-first\n20-second\n", content(notes))
}

func TestKeys(t *testing.T) {
	key := func(o Options) string { return task{label: o.String(), options: o}.key() }
	require.Equal(t, "reload_unit a.service", key(Options{ReloadUnit: "a.service"}))
	one, two := key(execute("/bin/sh", "-c", "secret")), key(execute("/bin/sh", "-c", "other"))
	require.NotEqual(t, one, two)
	require.NotContains(t, one, "secret")
	require.Contains(t, one, "exec /bin/sh #")
}
