package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/teleport/api/types/events"
	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// registrar is what the tests of discovery start from: a directory, and names
// that no other test uses.
type registrar struct {
	cluster *harness.Cluster
	// name is the service's, and begins the names of everything else.
	name string
	dir  string
	// began is when the test did, for the audit log.
	began time.Time
}

func newRegistrar(t *testing.T, c *harness.Cluster) *registrar {
	t.Helper()
	return &registrar{cluster: c, name: harness.Unique(t, "d"), dir: suite.Dir(t), began: time.Now().Add(-time.Second)}
}

// registrarAgent is one agent of a registrar.
type registrarAgent struct {
	*registrar
	config string
	bot    harness.Bot
	// storage and token are the agent's own.
	storage, token string
}

// service is a discovery service in YAML; more are its further lines.
func (r *registrar) service(more ...string) string {
	return fmt.Sprintf("  - type: discovery\n    name: %s\n    %s\n", r.name, strings.Join(more, "\n    "))
}

// fromFile is a source of type file with the registrar's inventory.
func (r *registrar) fromFile() string {
	return fmt.Sprintf("source: {type: file, path: %s}", r.inventory())
}

func (r *registrar) inventory() string { return filepath.Join(r.dir, "inventory.yaml") }

// agent makes a configuration. The token's file is filled by employ.
func (r *registrar) agent(t *testing.T, services string) *registrarAgent {
	t.Helper()
	own, err := os.MkdirTemp(r.dir, "agent-")
	require.NoError(t, err)
	a := &registrarAgent{registrar: r, storage: filepath.Join(own, "storage"), token: filepath.Join(own, "token")}
	a.config = filepath.Join(own, "rollcall.yaml")
	a.configure(t, services)
	return a
}

func (a *registrarAgent) configure(t *testing.T, services string) {
	t.Helper()
	require.NoError(t, os.WriteFile(a.config, fmt.Appendf(nil, `version: v2
proxy_server: %s
onboarding: {join_method: token, token: %s}
storage: {type: directory, path: %s}
diag_addr: 127.0.0.1:0
services:
%s`, a.cluster.Info().ProxyAddr, a.token, a.storage, services), 0o600))
}

// employ does what the documentation has an administrator do, with the official
// tctl: the role that `discovery roles` prints, a bot with it, and the bot's token
// in its file. change may narrow the role.
func (a *registrarAgent) employ(t *testing.T, bot string, change func(*types.RoleV6)) {
	t.Helper()
	if change != nil {
		a.employNarrowed(t, bot, change)
		return
	}
	a.cluster.CreateWithTctl(t, suite.WriteFile(t, "role.yaml", a.must(t, "roles", "--bot", bot)))
	a.hire(t, a.cluster.AddBot(t, bot, a.role()))
}

// role is the name that `discovery roles` gives the service's role.
func (a *registrarAgent) role() string { return a.name + "-registrar" }

// hire puts a bot's token where the agent looks for it.
func (a *registrarAgent) hire(t *testing.T, bot harness.Bot) {
	t.Helper()
	a.bot = bot
	require.NoError(t, os.WriteFile(a.token, []byte(bot.Token+"\n"), 0o600))
}

// employNarrowed makes the role another one than was printed. It's read as
// strictly as can be: a field that this Teleport doesn't know would be lost
// without a word.
func (a *registrarAgent) employNarrowed(t *testing.T, bot string, change func(*types.RoleV6)) {
	t.Helper()
	out := a.must(t, "roles", "--bot", bot, "--format", "json")
	role := new(types.RoleV6)
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(role), out)
	change(role)
	a.cluster.PutRole(t, role)
	a.hire(t, a.cluster.CreateBot(t, bot, role.GetName()))
}

// owner is whose the agent's resources are.
func (a *registrarAgent) owner(t *testing.T) string {
	t.Helper()
	id, err := os.ReadFile(filepath.Join(a.storage, "host-id"))
	require.NoError(t, err)
	return a.bot.Name + "/" + strings.TrimSpace(string(id)) + "/" + a.name
}

// run runs the agent until the test ends it.
func (a *registrarAgent) run(t *testing.T) *harness.Process {
	t.Helper()
	return a.cluster.Rollcall(t, "start", "-c", a.config)
}

// discovery runs a `rollcall discovery` command.
func (a *registrarAgent) discovery(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := a.cluster.Rollcall(t, append([]string{"discovery", args[0], "-c", a.config}, args[1:]...)...)
	code = p.Wait(t).ExitCode
	return code, p.Stdout.String(), p.Stderr.String()
}

// must is discovery for one that ends with 0.
func (a *registrarAgent) must(t *testing.T, args ...string) string {
	t.Helper()
	code, out, problems := a.discovery(t, args...)
	require.Zero(t, code, "discovery %v: %s\n%s", args, problems, out)
	return out
}

// entry is one resource of an inventory.
type entry struct {
	Kind       string            `json:"kind,omitempty"`
	Name       string            `json:"name"`
	URI        string            `json:"uri"`
	PublicAddr string            `json:"public_addr,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Workload   string            `json:"workload,omitempty"`
}

// app is an entry for an application at an address.
func (r *registrar) app(name, uri string) entry {
	return entry{Name: name, URI: uri, PublicAddr: name + ".apps.localhost", Labels: map[string]string{"team": r.name}}
}

// write puts an inventory in place, whole.
func (r *registrar) write(t *testing.T, entries ...entry) {
	t.Helper()
	if entries == nil {
		entries = []entry{}
	}
	r.writeEntries(t, entries)
}

// writeEntries is write for entries of any form.
func (r *registrar) writeEntries(t *testing.T, entries any) {
	t.Helper()
	// JSON is YAML.
	body, err := json.Marshal(map[string]any{"resources": entries})
	require.NoError(t, err)
	temp := filepath.Join(r.dir, ".inventory.new")
	require.NoError(t, os.WriteFile(temp, body, 0o600))
	require.NoError(t, os.Rename(temp, r.inventory()))
}

// registered are the names of the applications that bear the team's label.
func (r *registrar) registered(t *testing.T) []string {
	t.Helper()
	apps, err := r.cluster.Client(t).GetApps(t.Context())
	require.NoError(t, err)
	names := []string{}
	for _, app := range apps {
		if label, _ := app.GetLabel("team"); label == r.name {
			names = append(names, app.GetName())
		}
	}
	slices.Sort(names)
	return names
}

// await waits until exactly these applications are registered.
func (r *registrar) await(t *testing.T, agent *harness.Process, names ...string) {
	t.Helper()
	agent.WaitFor(t, patience, fmt.Sprintf("the registered applications %v", names), r.only(t, names))
}

// awaitCache is await after a command that has registered just these: the
// cluster's cache may not show them yet.
func (r *registrar) awaitCache(t *testing.T, names ...string) {
	t.Helper()
	harness.Eventually(t, patience, fmt.Sprintf("the registered applications %v in the cluster's cache", names), r.only(t, names))
}

// only says what else is registered than these applications, or in place of them.
func (r *registrar) only(t *testing.T, names []string) func() error {
	want := slices.Sorted(slices.Values(names))
	return func() error {
		if got := r.registered(t); !slices.Equal(got, want) {
			return fmt.Errorf("they're %v", got)
		}
		return nil
	}
}

// written is a write of an application in the cluster's audit log.
type written struct {
	What, App, User string
	At              time.Time
}

// writes is the audit log of the registrar's applications, oldest first.
func (r *registrar) writes(t *testing.T) []written {
	t.Helper()
	var all []written
	for next := ""; ; {
		page, key, err := r.cluster.Client(t).SearchEvents(t.Context(), r.began, time.Now().Add(time.Minute), "default",
			[]string{"app.create", "app.update", "app.delete"}, 500, types.EventOrderAscending, next)
		require.NoError(t, err)
		for _, event := range page {
			w := written{What: strings.TrimPrefix(event.GetType(), "app."), At: event.GetTime()}
			switch e := event.(type) {
			case *events.AppCreate:
				w.App, w.User = e.Name, e.User
			case *events.AppUpdate:
				w.App, w.User = e.Name, e.User
			case *events.AppDelete:
				w.App, w.User = e.Name, e.User
			}
			if strings.HasPrefix(w.App, r.name) {
				all = append(all, w)
			}
		}
		if key == "" {
			return all
		}
		next = key
	}
}

// state waits for the service's state to be as wanted, and returns it.
func (a *registrarAgent) state(t *testing.T, agent *harness.Process, what string, wanted func(state) bool) state {
	t.Helper()
	address := diagnostics(t, agent)
	var last state
	agent.WaitFor(t, patience, "the service to be "+what, func() error {
		_, _, all := readyz(t, address)
		if last = all[a.name]; !wanted(last) {
			return fmt.Errorf("it's %+v", last)
		}
		return nil
	})
	return last
}

// foreign registers an application that isn't the agent's. What it returns is
// called at the test's end, and fails it if anything of the application has
// changed.
func (r *registrar) foreign(t *testing.T, name string, labels map[string]string) (unchanged func()) {
	t.Helper()
	app, err := types.NewAppV3(types.Metadata{Name: name, Labels: labels}, types.AppSpecV3{URI: "http://127.0.0.1:1"})
	require.NoError(t, err)
	require.NoError(t, r.cluster.Client(t).CreateApp(t.Context(), app))
	var before []byte
	harness.Eventually(t, patience, "application "+name, func() (err error) {
		before, err = r.asStored(t, name)
		return err
	})
	return func() {
		t.Helper()
		after, err := r.asStored(t, name)
		require.NoError(t, err, "the foreign application %s", name)
		require.Equal(t, string(before), string(after), "the foreign application %s was changed", name)
	}
}

// asStored is an application as the cluster has it, its revision included.
func (r *registrar) asStored(t *testing.T, name string) ([]byte, error) {
	t.Helper()
	app, err := r.cluster.Client(t).GetApp(t.Context(), name)
	if err != nil {
		return nil, err
	}
	return json.Marshal(app)
}

// log are the lines that the agent has logged of the registrar's service.
func (r *registrar) log(agent *harness.Process) []string {
	var lines []string
	for line := range strings.Lines(agent.Stderr.String()) {
		if strings.Contains(line, "service="+r.name) {
			lines = append(lines, line)
		}
	}
	return lines
}

// lines counts the lines that hold all the words.
func lines(all []string, words ...string) int {
	n := 0
	for _, line := range all {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			n++
		}
	}
	return n
}
