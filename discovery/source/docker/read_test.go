package docker

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/discovery"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

var update = flag.Bool("update", false, "write golden files anew")

// everything is what most tests read with.
func everything() Options {
	return Options{Select: SelectAll, AllowLabels: []string{labelName, labelPort, labelPath}}
}

// TestReadRecorded reads what a real Engine said, in both kinds of addresses.
func TestReadRecorded(t *testing.T) {
	for _, address := range []Address{AddressContainer, AddressPublished} {
		t.Run(string(address), func(t *testing.T) {
			f := newFakeEngine(t)
			options := everything()
			options.Address = address
			s := f.source(t, options)

			candidates, err := s.Read(t.Context())

			require.NoError(t, err)
			golden(t, "read-"+string(address)+".golden", tell(candidates))
		})
	}
}

// tell writes candidates as people see them.
func tell(candidates []discovery.Candidate) string {
	var b strings.Builder
	for _, c := range candidates {
		fmt.Fprintf(&b, "%s: %s %v\n", c.Workload, c.Resource.Name, c.Resource.Spec)
		if c.Err != nil {
			fmt.Fprintf(&b, "  error (%s): %v\n", failure.KindOf(c.Err), c.Err)
		}
		if c.Skip != "" {
			fmt.Fprintf(&b, "  skipped: %s\n", c.Skip)
		}
		for _, rule := range c.Rules {
			mark := "no "
			if rule.Passed {
				mark = "yes"
			}
			fmt.Fprintf(&b, "  %s %-8s %s\n", mark, rule.Name, rule.Detail)
		}
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := "testdata/" + name
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644)) //nolint:gosec // A test's file.
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// TestReadCalls counts the calls: two lists a reading, and an inspection only of
// what changed.
func TestReadCalls(t *testing.T) {
	f := newFakeEngine(t)
	s := f.source(t, everything())

	_, err := s.Read(t.Context())
	require.NoError(t, err)
	first := f.took()
	require.Equal(t, []string{"HEAD /_ping", "GET /containers/json"}, first[:2])
	require.Len(t, first, 2+9+1, "each of the containers that run is inspected once")
	require.Equal(t, "GET /networks", first[len(first)-1], "which start of the Engine that was")

	_, err = s.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"GET /containers/json", "GET /networks"}, f.took(), "nothing changed")

	// Arrange: one container has started anew, with another address.
	f.change(func() {
		for _, networks := range []object{
			f.summary("plain")["NetworkSettings"].(object)["Networks"].(object),
			f.details[f.id("plain")]["NetworkSettings"].(object)["Networks"].(object),
		} {
			networks["bridge"].(object)["EndpointID"] = "new"
			networks["bridge"].(object)["IPAddress"] = "172.17.0.99"
		}
	})

	candidates, err := s.Read(t.Context())

	require.NoError(t, err)
	require.Equal(t, []string{"GET /containers/json", "GET /containers/" + f.id("plain") + "/json", "GET /networks"}, f.took())
	require.Equal(t, "http://172.17.0.99:15672", specOf(t, candidates, "rollcall-src-plain").URI, "the address changes, and the workload doesn't")
	require.Equal(t, "http://172.17.0.99:8000", specOf(t, candidates, "rollcall-src-joined").URI, "who shares its network moves with it")
}

func specOf(t *testing.T, candidates []discovery.Candidate, workload string) resource.AppSpec {
	t.Helper()
	c := candidateOf(t, candidates, workload)
	require.NoError(t, c.Err)
	return c.Resource.Spec.(resource.AppSpec)
}

func candidateOf(t *testing.T, candidates []discovery.Candidate, workload string) discovery.Candidate {
	t.Helper()
	for _, c := range candidates {
		if c.Workload == workload {
			return c
		}
	}
	require.Fail(t, "no such workload", "%s in\n%s", workload, tell(candidates))
	return discovery.Candidate{}
}

// TestReadJoinedBehindFilter needs the container whose network another shares,
// although the filters leave it out: one more list, not one call each.
func TestReadJoinedBehindFilter(t *testing.T) {
	f := newFakeEngine(t)
	options := everything()
	options.Filters.Name = []string{"rollcall-src-joined"}
	s := f.source(t, options)

	candidates, err := s.Read(t.Context())

	require.NoError(t, err)
	require.Len(t, candidates, 1)
	require.Equal(t, "http://172.17.0.2:8000", specOf(t, candidates, "rollcall-src-joined").URI)
	f.took()
	_, err = s.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"GET /containers/json", "GET /containers/json", "GET /networks"}, f.took())
}

// TestReadVanished skips a container that is gone between list and inspection.
func TestReadVanished(t *testing.T) {
	f := newFakeEngine(t)
	f.only("plain", "health")
	id := f.id("health")
	f.change(func() {
		f.intercept = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, id) {
				return false
			}
			f.only("plain")
			http.Error(w, `{"message":"No such container"}`, http.StatusNotFound)
			return true
		}
	})

	candidates, err := f.source(t, everything()).Read(t.Context())

	require.NoError(t, err)
	require.Len(t, candidates, 1)
	require.Equal(t, "rollcall-src-plain", candidates[0].Workload)
}

// TestReadNotFound has a proxy that says of the details, which it doesn't let
// through, that they don't exist: an error, and not an empty Engine.
func TestReadNotFound(t *testing.T) {
	for _, hidden := range []string{"/health", "/", "/plain"} {
		f := newFakeEngine(t)
		f.only("plain", "health")
		f.change(func() {
			f.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Count(r.URL.Path, "/") != 4 || hidden != "/" && !strings.Contains(r.URL.Path, f.id(hidden[1:])) {
					return false
				}
				http.Error(w, `{"message":"page not found"}`, http.StatusNotFound)
				return true
			}
		})

		candidates, err := f.source(t, everything()).Read(t.Context())

		require.Equal(t, failure.Transient, failure.KindOf(err), "%v", err)
		require.ErrorContains(t, err, "says that it doesn't exist")
		require.Nil(t, candidates)
	}
}

// TestReadInTheMiddle inspects a container while it restarts: what is seen then
// isn't kept, although the list looks the same afterwards.
func TestReadInTheMiddle(t *testing.T) {
	f := newFakeEngine(t)
	f.only("plain")
	state := f.details[f.id("plain")]["State"].(object)
	f.change(func() { state["Status"] = "exited" })
	s := f.source(t, everything())
	candidates, err := s.Read(t.Context())
	require.NoError(t, err)
	require.Empty(t, candidates)

	f.change(func() { state["Status"] = "running" })
	candidates, err = s.Read(t.Context())

	require.NoError(t, err)
	require.Len(t, candidates, 1)
}

// TestReadHalf injects what Engines and proxies have been seen to do. Each time
// the whole reading fails, and the next one is right.
func TestReadHalf(t *testing.T) {
	list := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/containers/json") }
	inspect := func(r *http.Request) bool { return strings.Count(r.URL.Path, "/") == 4 }
	ping := func(r *http.Request) bool { return r.URL.Path == "/_ping" }
	say := func(code int, text string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); _, _ = io.WriteString(w, text) }
	}
	cut := func(text string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			_, _ = io.WriteString(w, text)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	}
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	tests := []struct {
		name   string
		at     func(*http.Request) bool
		answer func(http.ResponseWriter, *http.Request)
		kind   failure.Kind
		says   string
	}{
		{"the list is cut", list, cut(`[{"Id":"a","Names":["/a"],"State":"running"},`), failure.Transient, "failed"},
		{"the list is cut between two containers", list, cut(`[{"Id":"a","Names":["/a"]}`), failure.Transient, "failed"},
		{"the list is null", list, say(200, "null"), failure.Transient, "no list of containers"},
		{"the list is an object", list, say(200, "{}"), failure.Transient, "failed"},
		{"the list has no IDs", list, say(200, "[{}]"), failure.Transient, "no list of containers"},
		{"the list is a page", list, say(200, "<html>Welcome</html>"), failure.Transient, "failed"},
		{"the list is empty text", list, say(200, ""), failure.Transient, "failed"},
		{"the list is refused", list, say(403, `{"message":"not here"}`), failure.Refused, "must be allowed"},
		{"the Engine is broken", list, say(500, `{"message":"database locked"}`), failure.Transient, "database locked"},
		{"the API is too new", list, say(400, `{"message":"client version 1.51 is too new"}`), failure.Configuration, "too new"},
		{"the list hangs", list, hang, failure.Unreachable, "didn't answer the list of containers within"},
		{"an inspection is cut", inspect, cut(`{"Id":"`), failure.Transient, "failed"},
		{"an inspection tells nothing", inspect, say(200, "{}"), failure.Transient, "only a part"},
		{"an inspection is refused", inspect, say(403, "{}"), failure.Refused, "must be allowed"},
		{"an inspection hangs", inspect, hang, failure.Unreachable, "didn't answer"},
		{"the ping fails", ping, say(500, `{"message":"starting"}`), failure.Transient, "500 Internal Server Error"},
		{"the ping hangs", ping, hang, failure.Unreachable, "didn't answer _ping"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFakeEngine(t)
			f.only("plain", "health")
			s := f.source(t, everything())
			s.engine.endpoint.timeout = 500 * time.Millisecond
			f.change(func() {
				f.intercept = func(w http.ResponseWriter, r *http.Request) bool {
					if !test.at(r) {
						return false
					}
					test.answer(w, r)
					return true
				}
			})

			candidates, err := s.Read(t.Context())

			require.Error(t, err)
			require.Nil(t, candidates)
			require.Equal(t, test.kind, failure.KindOf(err), "%v", err)
			require.ErrorContains(t, err, test.says)

			s.engine.endpoint.timeout = time.Minute
			f.change(func() { f.intercept, f.lenient = nil, true })
			candidates, err = s.Read(t.Context())
			require.NoError(t, err)
			require.Len(t, candidates, 2)
		})
	}
}

// TestReadAbsent has no Engine at all, then one, then none, then one that
// speaks another version.
func TestReadAbsent(t *testing.T) {
	f := newFakeEngine(t)
	f.only("plain")
	s := f.source(t, everything())
	f.stop()
	_, err := s.Read(t.Context())
	require.Equal(t, failure.Unreachable, failure.KindOf(err), "%v", err)
	require.ErrorContains(t, err, f.socket)

	f.start()
	candidates, err := s.Read(t.Context())
	require.NoError(t, err)
	require.Len(t, candidates, 1)

	f.stop()
	_, err = s.Read(t.Context())
	require.Equal(t, failure.Unreachable, failure.KindOf(err), "%v", err)

	f.change(func() {
		f.lenient = true
		f.version = "1.30"
		f.intercept = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/v") && !strings.HasPrefix(r.URL.Path, "/v1.30/") {
				http.Error(w, `{"message":"client is too new"}`, http.StatusBadRequest)
				return true
			}
			return false
		}
	})
	f.start()
	candidates, err = s.Read(t.Context())
	require.NoError(t, err)
	require.Len(t, candidates, 1)
}

// TestReadCancelled ends with its context.
func TestReadCancelled(t *testing.T) {
	f := newFakeEngine(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.change(func() {
		f.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
			cancel()
			<-r.Context().Done()
			return true
		}
	})

	_, err := f.source(t, everything()).Read(ctx)

	require.ErrorIs(t, err, context.Canceled)
}

// TestReadPermission names the way out when the socket can't be used.
func TestReadPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("as root no socket is closed to us: the sentence alone is tried")
		err := endpoint{host: DefaultHost}.explain(fmt.Errorf("dial: %w", os.ErrPermission), "_ping")
		require.Equal(t, failure.Configuration, failure.KindOf(err))
		require.ErrorContains(t, err, "read-only proxy")
		return
	}
	f := newFakeEngine(t)
	require.NoError(t, os.Chmod(f.socket, 0))
	_, err := f.source(t, everything()).Read(t.Context())
	require.Equal(t, failure.Configuration, failure.KindOf(err), "%v", err)
	require.ErrorContains(t, err, "read-only proxy")
}

// TestRivals has two running containers of one identity: both are told.
func TestRivals(t *testing.T) {
	f := newFakeEngine(t)
	f.only("plain", "health")
	f.change(func() {
		for _, name := range []string{"plain", "health"} {
			f.details[f.id(name)]["Config"].(object)["Labels"] = object{"team": "a"}
		}
	})
	options := everything()
	options.IdentityLabel = "team"
	s := f.source(t, options)

	candidates, err := s.Read(t.Context())
	require.NoError(t, err)
	clear(f.inspected)
	told, explainErr := s.Explain(t.Context(), "rollcall-src-plain")

	require.NoError(t, explainErr)
	require.Len(t, candidates, 2)
	for _, c := range append(candidates, told...) {
		require.Equal(t, "a", c.Workload)
		require.Equal(t, failure.Conflict, failure.KindOf(c.Err))
		require.ErrorContains(t, c.Err, "2 running containers have the identity a")
	}
}

// TestForgedComposeLabels has a container bear the Compose labels of another:
// it neither takes the other's identity nor makes it disputed, whether or not
// the other runs just then, and the labels that a container may set for itself
// are none.
func TestForgedComposeLabels(t *testing.T) {
	for _, running := range [][]string{{"plain", "two"}, {"plain"}} {
		f := newFakeEngine(t)
		f.only(running...)
		f.change(func() {
			labels := object{composeProject: "shop", composeService: "web", composeNumber: "2"}
			two := f.id("two")
			f.details[two]["Name"] = "/shop-web-2"
			for _, c := range f.containers {
				if c["Id"] == two {
					c["Names"] = []any{"/shop-web-2"}
				}
			}
			f.details[f.id("plain")]["Config"].(object)["Labels"] = labels
		})
		s := f.source(t, Options{Select: SelectAll, Port: 80, AllowLabels: []string{}})

		candidates, err := s.Read(t.Context())

		require.NoError(t, err)
		require.Len(t, candidates, len(running))
		forger := candidateOf(t, candidates, "rollcall-src-plain")
		require.NoError(t, forger.Err)
		require.Equal(t, "rollcall-src-plain", forger.Resource.Name)
		if len(running) == 2 {
			victim := candidateOf(t, candidates, "shop/web/2")
			require.NoError(t, victim.Err)
			require.Equal(t, "shop-web-2", victim.Resource.Name)
		}
	}
}
