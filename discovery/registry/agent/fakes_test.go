package agent

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
	"github.com/stretchr/testify/require"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

// fakeEngine is a Docker Engine's API over containers that are only written
// down. What a real one does is tested end to end.
type fakeEngine struct {
	mu    sync.Mutex
	boxes map[string]*box
	calls []string      // METHOD ID VERB, of single containers
	null  bool          // the list is `null`
	stall string        // the verb that isn't answered
	free  chan struct{} // closed: what isn't answered is refused
	words string        // what the containers log
}

// listVerb is the list of containers as what stalls.
const listVerb = "list"

type box struct {
	id, name string
	labels   map[string]string
	state    string
	created  int64
	files    map[string][]byte
}

func (e *fakeEngine) add(b *box) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.boxes[b.id] = b
}

func (e *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, path, _ := strings.Cut(r.URL.Path, "/containers/")
	id, verb, _ := strings.Cut(path, "/")
	e.mu.Lock()
	stall := e.stall != "" && (verb == e.stall || path == "json" && e.stall == listVerb)
	e.mu.Unlock()
	if stall {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-e.free:
			http.Error(w, `{"message":"too late"}`, http.StatusInternalServerError)
		}
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch path {
	case "json":
		e.list(w, r)
		return
	case "create":
		e.create(w, r)
		return
	}
	e.calls = append(e.calls, strings.TrimSpace(r.Method+" "+id+" "+verb))
	b := e.boxes[id]
	if b == nil {
		http.Error(w, `{"message":"no such container"}`, http.StatusNotFound)
		return
	}
	switch {
	case verb == "archive" && r.Method == http.MethodGet:
		b.read(w, r.URL.Query().Get("path"))
	case verb == "archive":
		b.write(r.Body)
	case verb == "logs":
		size := len(e.words)
		_, _ = w.Write(append([]byte{2, 0, 0, 0, byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)}, e.words...))
	case verb == "start":
		b.state = container.StateRunning
		w.WriteHeader(http.StatusNoContent)
	case verb == "stop":
		b.state = container.StateExited
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodDelete:
		delete(e.boxes, id)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (e *fakeEngine) list(w http.ResponseWriter, r *http.Request) {
	if e.null {
		_, _ = io.WriteString(w, "null")
		return
	}
	var wanted struct {
		Label map[string]bool `json:"label"`
	}
	if err := json.Unmarshal([]byte(r.URL.Query().Get("filters")), &wanted); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	found := []container.Summary{}
	for _, id := range slices.Sorted(maps.Keys(e.boxes)) {
		b := e.boxes[id]
		matches := true
		for label := range wanted.Label {
			key, value, exact := strings.Cut(label, "=")
			got, there := b.labels[key]
			matches = matches && there && (!exact || got == value)
		}
		if matches {
			found = append(found, container.Summary{ID: id, Names: []string{"/" + b.name}, Labels: b.labels, State: b.state, Created: b.created})
		}
	}
	_ = json.NewEncoder(w).Encode(found)
}

func (e *fakeEngine) create(w http.ResponseWriter, r *http.Request) {
	var config container.Config
	if err := json.NewDecoder(r.Body).Decode(&config); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id := fmt.Sprintf("%064x", len(e.boxes)+1)
	e.boxes[id] = &box{
		id: id, name: r.URL.Query().Get("name"), labels: config.Labels, state: container.StateCreated,
		created: time.Now().Unix(), files: map[string][]byte{},
	}
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(container.CreateResponse{ID: id})
}

func (b *box) read(w http.ResponseWriter, path string) {
	content, there := b.files[path]
	if !there {
		http.Error(w, `{"message":"no such file"}`, http.StatusNotFound)
		return
	}
	stat, _ := json.Marshal(container.PathStat{Name: path, Size: int64(len(content))})
	w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(stat))
	archive := tar.NewWriter(w)
	_ = archive.WriteHeader(&tar.Header{Name: path, Typeflag: tar.TypeReg, Size: int64(len(content)), Mode: 0o600})
	_, _ = archive.Write(content)
	_ = archive.Close()
}

func (b *box) write(body io.Reader) {
	for archive := tar.NewReader(body); ; {
		header, err := archive.Next()
		if err != nil {
			return
		}
		if header.Typeflag == tar.TypeReg {
			b.files["/"+header.Name], _ = io.ReadAll(archive)
		}
	}
}

// fakeCluster holds join tokens of all kinds, and records of agents.
type fakeCluster struct {
	mu      sync.Mutex
	tokens  map[string]bool
	servers []types.AppServer
	looks   int
}

// lookUps counts how often records were asked for.
func (c *fakeCluster) lookUps() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.looks
}

func (c *fakeCluster) AppServers(_ context.Context, name string) ([]types.AppServer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looks++
	var found []types.AppServer
	for _, server := range c.servers {
		if name == "" || server.GetApp().GetName() == name {
			found = append(found, server)
		}
	}
	return found, nil
}

func (c *fakeCluster) DeleteAppServer(_ context.Context, hostID, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers = slices.DeleteFunc(c.servers, func(s types.AppServer) bool {
		return s.GetHostID() == hostID && s.GetApp().GetName() == name
	})
	return nil
}

func (c *fakeCluster) CreateToken(_ context.Context, token types.ProvisionToken) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens[token.GetName()] = true
	return nil
}

func (c *fakeCluster) DeleteToken(_ context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.tokens[name] {
		return failure.Wrap(failure.NotFound, trace.NotFound("no token"), "no token")
	}
	delete(c.tokens, name)
	return nil
}

// registered has an agent on a node serve an application.
func (c *fakeCluster) registered(t *testing.T, node string, r resource.Resource) {
	t.Helper()
	app, err := types.NewAppV3(types.Metadata{Name: r.Name, Labels: r.Labels}, types.AppSpecV3{URI: "http://a"})
	require.NoError(t, err)
	server, err := types.NewAppServerV3FromApp(app, node, "id-"+node)
	require.NoError(t, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers = append(c.servers, server)
}

// bench is a registry between the two.
type bench struct {
	*Registry
	engine  *fakeEngine
	cluster *fakeCluster
	log     *bytes.Buffer
}

func newBench(t *testing.T, change ...func(*Options)) *bench {
	t.Helper()
	b := &bench{engine: &fakeEngine{boxes: map[string]*box{}, free: make(chan struct{})}, cluster: &fakeCluster{tokens: map[string]bool{}}, log: &bytes.Buffer{}}
	opts := Options{Image: "teleport:14.2.3", ProxyAddr: "proxy.example.com:443"}
	for _, c := range change {
		c(&opts)
	}
	server := httptest.NewServer(b.engine)
	t.Cleanup(server.Close)
	docker, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = docker.Close() })
	b.Registry, err = build(docker, b.cluster, opts, testOwner, bytes.Repeat([]byte{7}, KeySize), slog.New(slog.NewTextHandler(b.log, nil)))
	require.NoError(t, err)
	b.poll = 5 * time.Millisecond
	t.Cleanup(b.Close)
	return b
}

// web is an application that's wanted.
func web(name string) resource.Resource {
	return resource.Resource{
		Kind: resource.KindApp, Name: name,
		Labels: map[string]string{resource.LabelOwner: testOwner, resource.LabelSource: "docker/s", resource.LabelWorkload: "w/" + name},
		Spec:   resource.AppSpec{URI: "http://172.17.0.2:80"},
	}
}

// serving starts an agent and waits until it serves; it returns its container.
func (b *bench) serving(t *testing.T, name string) *box {
	t.Helper()
	require.NoError(t, b.Create(t.Context(), web(name)))
	made := b.box(t, name)
	b.cluster.registered(t, made.name, web(name))
	require.NoError(t, b.Settle(t.Context()))
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	b.engine.calls = nil
	return made
}

func (b *bench) box(t *testing.T, name string) *box {
	t.Helper()
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	for _, found := range b.engine.boxes {
		if found.labels[labelApp] == name {
			return found
		}
	}
	require.FailNow(t, "no container for "+name)
	return nil
}

// restarted is the same registry, that knows nothing yet.
func (b *bench) restarted() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known = map[string]*known{}
}
