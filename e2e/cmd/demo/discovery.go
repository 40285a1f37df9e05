package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/types"

	"rollcall/e2e/harness"
)

// Names of the second act.
const (
	registrar     = "registrar"
	registrarBot  = "web"
	readerBot     = "visitor"
	readerRole    = "visitor-access"
	discoveredEnv = "demo"
)

// inventory is what comes and goes: containers, or, where no Engine answers,
// entries of a file.
type inventory interface {
	// source is the service's source, in YAML.
	source() string
	// start and stop have a workload come and go, and show how.
	start(name string)
	stop(name string)
}

// discovery is the second act: workloads come and go, and the registered
// applications follow, each reachable through Teleport.
func (s *story) discovery() {
	s.tell.step("Discovery: what runs is what is registered")
	what := s.newInventory()
	s.writeDiscovery(what)
	s.employRegistrar()
	agent := s.startDiscovery()
	for _, name := range []string{"queue", "wiki"} {
		what.start(name)
		s.awaitRegistered(agent, name, true)
	}
	s.visit("queue", "wiki")
	what.stop("queue")
	s.awaitRegistered(agent, "queue", false)
	s.explainLeft()
	if r := agent.Terminate(s.t); r.ExitCode != 0 {
		s.t.Fatalf("the agent ended with exit code %d, want 0", r.ExitCode)
	}
}

// newInventory uses Docker where it answers.
func (s *story) newInventory() inventory {
	if !harness.HasDocker(s.t.Context()) {
		s.tell.say("No Docker Engine answers here, so that the workloads are entries of a file.")
		return &entries{story: s, urls: map[string]string{}}
	}
	d := s.suite.Docker(s.t)
	return &containers{story: s, docker: d, image: d.WebImage("demo"), running: map[string]*harness.RunningContainer{}}
}

func (s *story) writeDiscovery(what inventory) {
	config := fmt.Sprintf(`version: v2
proxy_server: %s
proxy_ca: %s
onboarding: {join_method: token, token: %s}
storage: {type: directory, path: %s}
services:
  - type: discovery
    name: %s
%s
    guard: {absent_for: 1s, settle: 1s}
`, s.cluster.Info().ProxyAddr, s.cluster.Info().ProxyCA, s.path("web-token"), s.path("web-storage"), registrar, what.source())
	must(s.t, "write the configuration", os.WriteFile(s.path("discovery.yaml"), []byte(config), 0o600))
	s.tell.typed("cat discovery.yaml")
	s.tell.showed(config)
}

// employRegistrar makes the role that rollcall prints, and a bot with it.
func (s *story) employRegistrar() {
	s.tell.typed("rollcall discovery roles -c discovery.yaml --bot " + registrarBot + " > role.yaml && tctl create -f role.yaml")
	shown := s.rollcall("discovery", "roles", "-c", "discovery.yaml", "--bot", registrarBot)
	shown.Succeed(s.t)
	s.tell.showed(shown.Stdout.String())
	p := s.rollcall("discovery", "roles", "-c", "discovery.yaml", "--bot", registrarBot, "--format", "json")
	p.Succeed(s.t)
	role := new(types.RoleV6)
	must(s.t, "read the role", json.Unmarshal([]byte(p.Stdout.String()), role))
	s.cluster.PutRole(s.t, role)
	s.tell.typed(fmt.Sprintf("tctl bots add %s --roles=%s", registrarBot, role.GetName()))
	bot := s.cluster.CreateBot(s.t, registrarBot, role.GetName())
	must(s.t, "write the token", os.WriteFile(s.path("web-token"), []byte(bot.Token+"\n"), 0o600))
	s.tell.say("The role reaches what bears this agent's own label, and nothing else in the cluster.")
}

func (s *story) startDiscovery() *harness.Process {
	s.tell.typed("rollcall start -c discovery.yaml &")
	agent := s.rollcall("start", "-c", "discovery.yaml")
	// Asked earlier, the command would take the storage that the agent needs.
	agent.WaitForLog(s.t, patience, "The bot joined the cluster.")
	agent.WaitFor(s.t, patience, "the service", func() error {
		if r := s.rollcall("discovery", "plan", "-c", "discovery.yaml").Wait(s.t); r.ExitCode != 0 {
			return fmt.Errorf("exit code %d", r.ExitCode)
		}
		return nil
	})
	return agent
}

// awaitRegistered waits until an application is registered, or isn't any more.
func (s *story) awaitRegistered(agent *harness.Process, name string, wanted bool) {
	begun := time.Now()
	agent.WaitFor(s.t, patience, "the application "+name, func() error {
		apps, err := s.cluster.Client(s.t).GetApps(s.t.Context())
		if err != nil {
			return err
		}
		there := slices.ContainsFunc(apps, func(app types.Application) bool { return app.GetName() == name })
		if there != wanted {
			return fmt.Errorf("registered: %t", there)
		}
		return nil
	})
	if wanted {
		s.tell.say("%s is registered %s later.", name, round(time.Since(begun)))
		return
	}
	s.tell.say("%s is deregistered %s later: it must be gone for a moment, and in more than one look.", name, round(time.Since(begun)))
}

// visit fetches each application with a certificate of its own.
func (s *story) visit(names ...string) {
	s.cluster.CreateAppRole(s.t, readerRole, map[string]string{"env": discoveredEnv})
	bot := s.cluster.CreateBot(s.t, readerBot, readerRole)
	var outputs strings.Builder
	for _, name := range names {
		s.cluster.WaitForApp(s.t, name)
		fmt.Fprintf(&outputs, "  - {type: application, app_name: %s, destination: {type: directory, path: %s}}\n", name, s.path("visits/"+name))
	}
	config := fmt.Sprintf("version: v2\nproxy_server: %s\nproxy_ca: %s\nonboarding: {join_method: token, token: %s}\nstorage: {type: memory}\noutputs:\n%s",
		s.cluster.Info().ProxyAddr, s.cluster.Info().ProxyCA, bot.Token, outputs.String())
	must(s.t, "write the configuration", os.WriteFile(s.path("visitor.yaml"), []byte(config), 0o600))
	s.rollcall("start", "-c", "visitor.yaml", "--oneshot").Succeed(s.t)
	for _, name := range names {
		app := harness.App{Name: name, PublicAddr: name + ".apps.localhost"}
		answer, err := s.cluster.Fetch(s.t.Context(), app, s.path("visits/"+name+"/tlscert"), s.path("visits/"+name+"/key"), "/")
		must(s.t, "fetch "+name, err)
		if answer.Status != http.StatusOK || !strings.Contains(answer.Body, name) {
			s.t.Fatalf("the answer of %s is %d: %.200s", name, answer.Status, answer.Body)
		}
		first, _, _ := strings.Cut(answer.Body, "\n")
		s.tell.say("Through Teleport, %s answers: %s", app.PublicAddr, first)
	}
}

// explainLeft shows why the one that is left is registered.
func (s *story) explainLeft() {
	s.tell.typed("rollcall discovery plan -c discovery.yaml")
	p := s.rollcall("discovery", "plan", "-c", "discovery.yaml")
	p.Wait(s.t)
	s.tell.showed(p.Stdout.String())
}

// containers are those of the Docker Engine.
type containers struct {
	*story
	docker  *harness.Docker
	image   string
	running map[string]*harness.RunningContainer
}

func (c *containers) source() string {
	return fmt.Sprintf(`    source: {type: docker, host: '%s', filters: {ancestor: ['%s']}, port: 15672}
    resource: {name: '{{ index .Labels "demo" }}', public_addr: '{{ index .Labels "demo" }}.apps.localhost', labels: {env: %s}}`,
		harness.Engine, c.image, discoveredEnv)
}

func (c *containers) start(name string) {
	c.tell.typed("docker run -d --name " + name + " " + c.image)
	c.running[name] = c.docker.Start(harness.Container{Image: c.image, Labels: map[string]string{"demo": name}, Args: []string{"--text", "Hello from the container " + name + "."}})
}

func (c *containers) stop(name string) {
	c.tell.typed("docker stop " + name)
	c.running[name].Stop()
}

// entries are those of a file, each a small web server of this demo.
type entries struct {
	*story
	urls map[string]string
}

func (e *entries) file() string { return e.path("inventory.yaml") }

func (e *entries) source() string {
	e.write()
	return fmt.Sprintf("    source: {type: file, path: %s}", e.file())
}

func (e *entries) start(name string) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "Hello from the program %s.\n", name)
	}))
	e.t.Cleanup(server.Close)
	e.urls[name] = server.URL
	e.write()
}

func (e *entries) stop(name string) {
	delete(e.urls, name)
	e.write()
}

// write puts the inventory in place, whole.
func (e *entries) write() {
	var lines []string
	for name, url := range e.urls {
		lines = append(lines, fmt.Sprintf("  - {name: %s, uri: '%s', public_addr: %s.apps.localhost, labels: {env: %s}}\n", name, url, name, discoveredEnv))
	}
	slices.Sort(lines)
	text := "resources:\n" + strings.Join(lines, "")
	if len(lines) == 0 {
		text = "resources: []\n"
	} else {
		e.tell.typed("cat inventory.yaml")
		e.tell.showed(text)
	}
	temp := filepath.Join(e.dir, ".inventory")
	must(e.t, "write the inventory", os.WriteFile(temp, []byte(text), 0o600))
	must(e.t, "write the inventory", os.Rename(temp, e.file()))
}
