package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"rollcall/e2e/harness"
)

// Names of the story. The cluster is its own, so they can be plain.
const (
	appName  = "hello"
	botName  = "demo"
	roleName = "hello-access"
	appLabel = "demo"
)

// patience is how long a step may take. They take less than a second where nothing
// else runs.
const patience = 90 * time.Second

// story is the demo, step by step. Every method ends it on a failure.
type story struct {
	t     harness.T
	suite *harness.Suite
	tell  *narrator

	cluster *harness.Cluster
	app     harness.App
	bot     harness.Bot
	dir     string
	agent   *harness.Process
}

// play tells the story. The last thing written is the application's answer.
func (s *story) play(wait bool) {
	s.startCluster()
	s.addApplication()
	s.addBot()
	s.writeConfig()
	s.validate()
	s.start()
	s.list()
	s.fetch()
	s.renew()
	s.discovery()
	s.version()
	s.tunnelAct()
	if !wait {
		s.stop()
	}
	s.fetchLast()
}

func (s *story) startCluster() {
	s.tell.step("A real Teleport cluster on this machine")
	s.cluster = s.suite.NewCluster(s.t, harness.ClusterOptions{Name: "demo.example.com"})
	s.dir = s.suite.Dir(s.t)
	pong, err := s.cluster.Client(s.t).Ping(s.t.Context())
	must(s.t, "ping the cluster", err)
	s.tell.say("Teleport %s is ready after %s: auth, proxy and application service in one process,\nproxy at %s.",
		pong.ServerVersion, round(s.cluster.ReadyAfter), s.cluster.Info().ProxyAddr)
	s.tell.say("Everything is below %s and vanishes at the end.", s.dir)
	s.tell.typed("cd " + s.dir)
}

func (s *story) addApplication() {
	s.tell.step("An application behind it")
	url := startSample(s.t)
	s.app = s.cluster.CreateApp(s.t, appName, url, map[string]string{appLabel: "true"})
	s.tell.typed("tctl create <<EOF")
	s.tell.showed(fmt.Sprintf(`
kind: app
version: v3
metadata: {name: %s, labels: {%s: "true"}}
spec: {uri: %s, public_addr: %s}
EOF`, s.app.Name, appLabel, url, s.app.PublicAddr))
	s.tell.say("It's a small web server of this demo; Teleport serves it at %s.", s.app.PublicAddr)
}

func (s *story) addBot() {
	s.tell.step("A bot that may reach this one application and nothing else")
	s.cluster.CreateAppRole(s.t, roleName, map[string]string{appLabel: "true"})
	s.bot = s.cluster.CreateBot(s.t, botName, roleName)
	s.tell.typed("tctl create <<EOF")
	s.tell.showed(fmt.Sprintf(`
kind: role
version: v7
metadata: {name: %s}
spec: {allow: {app_labels: {%s: "true"}}}
EOF`, roleName, appLabel))
	s.tell.typed(fmt.Sprintf("tctl bots add %s --roles=%s", botName, roleName))
	must(s.t, "write the token", os.WriteFile(s.path("token"), []byte(s.bot.Token+"\n"), 0o600))
	s.tell.say("Its join token works once. It's in the file token, readable by its owner alone.")
}

func (s *story) writeConfig() {
	s.tell.step("A configuration")
	config := fmt.Sprintf(`version: v2
proxy_server: %s
# The demo's proxy has a certificate from a private CA; a public one needs no line.
proxy_ca: %s
onboarding: {join_method: token, token: %s}
storage: {type: directory, path: %s}
credential_ttl: 1h
renewal_interval: 20m
outputs:
  - type: application
    app_name: %s
    destination: {type: directory, path: %s}
`, s.cluster.Info().ProxyAddr, s.cluster.Info().ProxyCA, s.path("token"), s.path("storage"), s.app.Name, s.path("credentials"))
	must(s.t, "write the configuration", os.WriteFile(s.path("rollcall.yaml"), []byte(config), 0o600))
	s.tell.typed("cat rollcall.yaml")
	s.tell.showed(config)
}

func (s *story) validate() {
	s.tell.step("Is it right?")
	s.tell.typed("rollcall validate -c rollcall.yaml")
	p := s.rollcall("validate", "-c", "rollcall.yaml")
	p.Succeed(s.t)
	s.tell.showed(p.Stdout.String() + p.Stderr.String())
}

func (s *story) start() {
	s.tell.step("Start the agent: it joins the cluster and writes the credentials")
	s.tell.typed("rollcall start -c rollcall.yaml &")
	begun := time.Now()
	s.agent = s.rollcall("start", "-c", "rollcall.yaml")
	s.agent.WaitFor(s.t, patience, "the credentials", func() error {
		_, err := os.Stat(s.credential("tlscert"))
		return err
	})
	took := time.Since(begun)
	s.agent.WaitForLog(s.t, patience, "Credentials renewed.")
	s.tell.showed(shortLog(s.agent.Stderr.String()))
	s.tell.say("The credentials were there %s after the start. A second of it is left to the proxy,\nso that it knows their session before anybody uses them (settle_time).", round(took))
}

func (s *story) list() {
	s.tell.step("What was written")
	s.tell.typed("ls -lA credentials")
	p := s.suite.Start(s.t, harness.Command{Path: "/bin/ls", Args: []string{"-lA", "credentials"}, Dir: s.dir})
	p.Succeed(s.t)
	s.tell.showed(p.Stdout.String())
	cert := s.certificate()
	s.tell.say("tlscert is for %s, valid for %s, serial number …%s. All files change together:\nthey are links through ..data, which is swapped when a set is complete.",
		cert.Subject.CommonName, round(time.Until(cert.NotAfter).Round(time.Minute)), serial(cert))
}

func (s *story) fetch() {
	s.tell.step("Fetch the application through Teleport's proxy, with the written certificate")
	answer := s.ask("/first")
	s.tell.say("HTTP status %d, %d bytes from the application itself.", answer.Status, len(answer.Body))
}

func (s *story) renew() {
	s.tell.step("Renew now (it would by itself after about 20 minutes)")
	before := s.certificate()
	s.tell.typed(fmt.Sprintf("kill -HUP %d", s.agent.PID))
	begun := time.Now()
	s.agent.Signal(s.t, syscall.SIGHUP)
	s.agent.WaitFor(s.t, patience, "the renewal", func() error {
		if serial(s.certificate()) == serial(before) {
			return errors.New("still the same certificate")
		}
		return nil
	})
	s.tell.say("serial number before: …%s\nserial number after:  …%s  (%s later, with a new key)",
		serial(before), serial(s.certificate()), round(time.Since(begun)))
}

func (s *story) version() {
	s.tell.step("Which version is this?")
	s.tell.typed("rollcall version")
	p := s.rollcall("version")
	p.Succeed(s.t)
	s.tell.showed(p.Stdout.String())
}

func (s *story) stop() {
	s.tell.step("Stop the agent")
	s.tell.typed(fmt.Sprintf("kill %d", s.agent.PID))
	begun := time.Now()
	if r := s.agent.Terminate(s.t); r.ExitCode != 0 {
		s.t.Fatalf("the agent ended with exit code %d, want 0", r.ExitCode)
	}
	s.tell.say("It ended %s later with exit code 0. The certificate stays valid until it expires.", round(time.Since(begun)))
}

func (s *story) fetchLast() {
	s.tell.step("Use the renewed certificate: the application's own answer")
	answer := s.ask("/")
	fmt.Fprintf(s.tell.out, "\n%s", answer.Body)
}

// ask fetches a path of the application once, and shows the curl line that does
// the same.
func (s *story) ask(path string) harness.Answer {
	cert, key := s.credential("tlscert"), s.credential("key")
	s.tell.typed(s.cluster.CurlLine(s.app, "credentials/tlscert", "credentials/key", path))
	answer, err := s.cluster.Fetch(s.t.Context(), s.app, cert, key, path)
	must(s.t, "fetch the application", err)
	if answer.Status != http.StatusOK || !strings.HasPrefix(answer.Body, greeting) {
		s.t.Fatalf("the application didn't answer: status %d: %.300s", answer.Status, answer.Body)
	}
	return answer
}

// rollcall starts the agent as the story's user would.
func (s *story) rollcall(args ...string) *harness.Process {
	return s.suite.Start(s.t, harness.Command{Path: s.suite.Bin.Rollcall, Args: args, Dir: s.dir})
}

func (s *story) path(name string) string { return filepath.Join(s.dir, name) }

func (s *story) credential(name string) string { return filepath.Join(s.dir, "credentials", name) }

// certificate reads the certificate in place.
func (s *story) certificate() *x509.Certificate {
	content, err := os.ReadFile(s.credential("tlscert"))
	must(s.t, "read the certificate", err)
	block, _ := pem.Decode(content)
	if block == nil {
		s.t.Fatalf("tlscert isn't PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	must(s.t, "parse the certificate", err)
	return cert
}

// serial is the end of a certificate's serial number: enough to tell two apart.
func serial(cert *x509.Certificate) string {
	hex := fmt.Sprintf("%032x", cert.SerialNumber)
	return hex[len(hex)-8:]
}

// round makes a duration readable.
func round(d time.Duration) string {
	switch {
	case d > time.Minute:
		text := d.Round(time.Second).String()
		if whole, ok := strings.CutSuffix(text, "m0s"); ok {
			return whole + "m"
		}
		return text
	case d > time.Second:
		return d.Round(10 * time.Millisecond).String()
	default:
		return d.Round(time.Millisecond).String()
	}
}

// lineWidth is what a log line is cut to.
const lineWidth = 150

// shortLog cuts long log lines.
func shortLog(log string) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		runes := []rune(strings.TrimRight(line, "\n"))
		if len(runes) > lineWidth {
			runes = append(runes[:lineWidth], '…')
		}
		b.WriteString(string(runes) + "\n")
	}
	return b.String()
}
