package docker

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"

	"rollcall/discovery/template"
)

// object is a JSON object.
type object = map[string]any

// FakeEngine is a real HTTP server on a Unix socket that replays what a real
// Engine (20.10.24) said; testdata/engine has the recording. It answers only
// GET (and HEAD of _ping), and 429 to an inspection that nothing asked for: one
// of a container that hasn't changed since the last.
type FakeEngine struct {
	t      *testing.T
	socket string

	mu         sync.Mutex // protects the following
	server     *http.Server
	listener   net.Listener
	version    string
	containers []object          // as the list has them, stopped ones too
	details    map[string]object // by ID
	// images is what the Engine's image store says that names mean: names to
	// IDs. Pulling and building anew moves them.
	images    map[string]string
	starts    int               // of the Engine: its own network has another ID after each
	inspected map[string]string // the detail that was told, by ID
	calls     []string
	streams   []chan string
	// lenient allows inspections that nothing asked for, where an abandoned one
	// may still be under way.
	lenient bool
	// intercept answers in place of the server if it returns true.
	intercept func(w http.ResponseWriter, r *http.Request) bool
}

func newFakeEngine(t *testing.T) *FakeEngine {
	t.Helper()
	f := &FakeEngine{t: t, socket: filepath.Join(t.TempDir(), "docker.sock"), version: "1.41", details: map[string]object{}, inspected: map[string]string{}, images: map[string]string{}}
	readJSON(t, "all.json", &f.containers)
	for _, c := range f.containers {
		f.images[c["Image"].(string)] = c["ImageID"].(string)
	}
	files, err := filepath.Glob("testdata/engine/container-*.json")
	require.NoError(t, err)
	for _, file := range files {
		var detail object
		readJSON(t, filepath.Base(file), &detail)
		f.details[detail["Id"].(string)] = detail
	}
	f.start()
	t.Cleanup(f.stop)
	return f
}

func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata/engine", name))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, into))
}

func (f *FakeEngine) start() {
	listener, err := net.Listen("unix", f.socket)
	require.NoError(f.t, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starts++
	f.listener = listener
	f.server = &http.Server{Handler: http.HandlerFunc(f.serve)} //nolint:gosec // Nobody is slow here.
	go f.server.Serve(listener)                                 //nolint:errcheck // It ends with the test.
}

// stop ends the server and all its connections, as a daemon's end does.
func (f *FakeEngine) stop() {
	f.mu.Lock()
	server := f.server
	f.mu.Unlock()
	_ = server.Close()
}

// change calls do under the lock.
func (f *FakeEngine) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// id returns the ID of a recorded container: "two" is rollcall-src-two.
func (f *FakeEngine) id(name string) string {
	for id, detail := range f.details {
		if detail["Name"] == "/rollcall-src-"+name {
			return id
		}
	}
	f.t.Fatalf("no container %s was recorded", name)
	return ""
}

func (f *FakeEngine) summary(name string) object {
	id := f.id(name)
	i := slices.IndexFunc(f.containers, func(c object) bool { return c["Id"] == id })
	return f.containers[i]
}

// refuse has a proxy in front of the Engine that refuses some paths.
func (f *FakeEngine) refuse(paths ...string) {
	f.change(func() {
		f.intercept = func(w http.ResponseWriter, r *http.Request) bool {
			refused := slices.ContainsFunc(paths, func(path string) bool { return strings.HasSuffix(r.URL.Path, path) })
			if refused {
				w.WriteHeader(http.StatusForbidden)
			}
			return refused
		}
	})
}

// only leaves the named containers.
func (f *FakeEngine) only(names ...string) {
	f.change(func() {
		f.containers = slices.DeleteFunc(f.containers, func(c object) bool {
			name := strings.TrimPrefix(c["Names"].([]any)[0].(string), "/rollcall-src-")
			return !slices.Contains(names, name)
		})
	})
}

// took returns the calls since the last time, without versions.
func (f *FakeEngine) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

// emit sends an event to all who listen.
func (f *FakeEngine) emit(event string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, stream := range f.streams {
		stream <- event
	}
}

// listeners says how many streams of events are open.
func (f *FakeEngine) listeners() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.streams)
}

func (f *FakeEngine) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	path := regexp.MustCompile(`^/v[0-9.]+`).ReplaceAllString(r.URL.Path, "")
	f.calls = append(f.calls, r.Method+" "+path)
	intercept := f.intercept
	w.Header().Set("Api-Version", f.version)
	f.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return
	}
	switch {
	case path == "/_ping" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
	case r.Method != http.MethodGet:
		f.t.Errorf("the Engine was told to do something: %s %s", r.Method, r.URL.Path)
		http.Error(w, `{"message":"no"}`, http.StatusForbidden)
	case path == "/containers/json":
		f.serveList(w, r)
	case path == "/networks":
		f.serveNetworks(w)
	case path == "/events":
		f.serveEvents(w, r)
	default:
		f.serveContainer(w, strings.TrimSuffix(strings.TrimPrefix(path, "/containers/"), "/json"))
	}
}

func (f *FakeEngine) serveList(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var filters map[string]map[string]bool
	_ = json.Unmarshal([]byte(r.URL.Query().Get("filters")), &filters)
	out := []object{}
	for _, c := range f.containers {
		stopped := !slices.Contains([]any{"running", "paused", "restarting"}, c["State"])
		if stopped && r.URL.Query().Get("all") != "1" || !f.matches(c, filters) {
			continue
		}
		out = append(out, f.listed(c))
	}
	_ = json.NewEncoder(w).Encode(out)
}

// listed is a container as the list has it: with the image's ID where the words
// that it was started with mean another one by now, or nothing.
func (f *FakeEngine) listed(c object) object {
	if f.images[c["Image"].(string)] == c["ImageID"] {
		return c
	}
	out := maps.Clone(c)
	out["Image"] = c["ImageID"]
	return out
}

// matches knows as much of the Engine's filters as the tests need. As in the
// Engine, ancestor is what the name means now; a name that means nothing
// matches nothing, without an error.
func (f *FakeEngine) matches(c object, filters map[string]map[string]bool) bool {
	for key, values := range filters {
		match := false
		for value := range values {
			switch key {
			case "id":
				match = match || strings.HasPrefix(c["Id"].(string), value)
			case "ancestor":
				match = match || f.images[value] != "" && f.images[value] == c["ImageID"]
			case "network":
				_, in := c["NetworkSettings"].(object)["Networks"].(object)[value]
				match = match || in
			case "name":
				match = match || strings.Contains(c["Names"].([]any)[0].(string), value)
			}
		}
		if !match {
			return false
		}
	}
	return true
}

func (f *FakeEngine) serveNetworks(w http.ResponseWriter) {
	var networks []object
	readJSON(f.t, "networks.json", &networks)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range networks {
		if one["Name"] == "bridge" {
			one["Id"] = fmt.Sprintf("%064x", f.starts)
		}
	}
	_ = json.NewEncoder(w).Encode(networks)
}

func (f *FakeEngine) serveContainer(w http.ResponseWriter, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	detail, ok := f.details[id]
	if !ok {
		http.Error(w, `{"message":"No such container"}`, http.StatusNotFound)
		return
	}
	text, _ := json.Marshal(detail)
	if f.inspected[id] == string(text) && !f.lenient {
		http.Error(w, `{"message":"asked twice"}`, http.StatusTooManyRequests)
		return
	}
	f.inspected[id] = string(text)
	_, _ = w.Write(text)
}

func (f *FakeEngine) serveEvents(w http.ResponseWriter, r *http.Request) {
	stream := make(chan string, 100)
	f.change(func() { f.streams = append(f.streams, stream) })
	defer f.change(func() {
		f.streams = slices.DeleteFunc(f.streams, func(s chan string) bool { return s == stream })
	})
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case event := <-stream:
			if event == "" {
				return // the daemon closes the stream
			}
			_, _ = w.Write([]byte(event))
			w.(http.Flusher).Flush()
		}
	}
}

// source returns a source that reads the engine.
func (f *FakeEngine) source(t *testing.T, options Options) *Source {
	t.Helper()
	if options.Host == "" {
		options.Host = "unix://" + f.socket
	}
	return sourceOf(t, options)
}

func sourceOf(t *testing.T, options Options) *Source {
	t.Helper()
	s, err := New(options, Deps{Template: templateOf(t, template.Options{}), Host: "host1", Getenv: func(string) string { return "" }, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func templateOf(t *testing.T, options template.Options) *template.Template {
	t.Helper()
	made, err := template.New(options)
	require.NoError(t, err)
	return made
}

func logs() container.LogsOptions { return container.LogsOptions{ShowStdout: true} }
