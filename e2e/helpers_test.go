package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// patience is how long a test waits for what takes a second or two on a quiet
// machine.
const patience = 90 * time.Second

// document is a configuration file in parts. Empty parts come from the stage:
// a token join through the proxy, certificates of an hour that nobody renews
// while the test runs, and one application output.
type document struct {
	server, onboarding, times, outputs, more string
}

func (s *stage) document(t *testing.T, d document) string {
	t.Helper()
	or := func(value, otherwise string) string {
		if value == "" {
			return otherwise
		}
		return value
	}
	return s.configWith(t, fmt.Sprintf(`
version: v2
%s
onboarding: %s
storage: {type: directory, path: %s}
%s
%s
outputs:
%s
`,
		or(d.server, "proxy_server: "+s.cluster.Info().ProxyAddr),
		or(d.onboarding, "{join_method: token, token: "+s.bot.Token+"}"),
		s.storage(),
		or(d.times, "credential_ttl: 1h"),
		d.more,
		or(d.outputs, s.application("out", ""))))
}

// everySecond renews as often as the schedule allows.
const everySecond = "credential_ttl: 1h\nrenewal_interval: 1s"

// application is an output for the stage's application into dir/NAME.
func (s *stage) application(name, options string) string {
	return s.output("application", name, "app_name: "+s.app.Name+", "+options)
}

// output is an item of outputs; options are in YAML's flow style.
func (s *stage) output(kind, name, options string) string {
	return fmt.Sprintf("  - {type: %s, name: %s, %s destination: {type: directory, path: %s}}\n",
		kind, name, options, s.place(name))
}

// place is the directory of the output of that name.
func (s *stage) place(name string) string { return filepath.Join(s.dir, name) }

// start runs the agent until the test ends it.
func (s *stage) start(t *testing.T, config string) *harness.Process {
	t.Helper()
	return s.cluster.Rollcall(t, "start", "-c", config)
}

// oneshot runs the agent once; it must succeed.
func (s *stage) oneshot(t *testing.T, config string) *harness.Process {
	t.Helper()
	agent := s.cluster.Rollcall(t, "start", "-c", config, "--oneshot")
	agent.Succeed(t)
	return agent
}

// fetches fails the test unless the certificate in dir/NAME reaches the
// application at once.
func (s *stage) fetches(t *testing.T, name string) {
	t.Helper()
	dir := s.place(name)
	s.cluster.MustFetch(t, s.app, s.sample, filepath.Join(dir, "tlscert"), filepath.Join(dir, "key"))
}

// pair reads certificate and key from one version of a set, as the
// documentation tells programs to: through a directory that was opened once.
func pair(dir string) (tls.Certificate, error) {
	root, err := os.OpenRoot(filepath.Join(dir, "..data"))
	if err != nil {
		return tls.Certificate{}, err
	}
	defer root.Close()
	cert, err := root.ReadFile("tlscert")
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := root.ReadFile("key")
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, key)
}

// tryPair fetches the application once with the pair in dir.
func (s *stage) tryPair(t *testing.T, dir string) error {
	cert, err := pair(dir)
	if err != nil {
		return err
	}
	answer, err := s.cluster.FetchWith(t.Context(), s.app, cert, "/")
	if err != nil {
		return err
	}
	if answer.Status != http.StatusOK || !strings.HasPrefix(answer.Body, s.sample.Text) {
		return fmt.Errorf("answer %d: %.200s", answer.Status, answer.Body)
	}
	return nil
}

// certificate reads the first certificate of a PEM file.
func certificate(path string) (*x509.Certificate, error) {
	all, err := certificates(path)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no certificate", path)
	}
	return all[0], nil
}

// certificates reads all certificates of a PEM file.
func certificates(path string) ([]*x509.Certificate, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, cert)
	}
	return all, nil
}

// serial is the serial number of the TLS certificate in dir/NAME.
func (s *stage) serial(t *testing.T, name string) string {
	t.Helper()
	cert, err := certificate(filepath.Join(s.place(name), "tlscert"))
	require.NoError(t, err)
	return cert.SerialNumber.String()
}

// awaitFile waits until the output has written its certificate.
func (s *stage) awaitFile(t *testing.T, agent *harness.Process, name string) {
	t.Helper()
	agent.WaitFor(t, patience, "the output "+name, func() error {
		_, err := os.Stat(filepath.Join(s.place(name), "tlscert"))
		return err
	})
}

// awaitSerial waits until the certificate in dir/NAME is another one than old.
func (s *stage) awaitSerial(t *testing.T, agent *harness.Process, name, old string) string {
	t.Helper()
	var now string
	agent.WaitFor(t, patience, "another certificate in "+name, func() error {
		cert, err := certificate(filepath.Join(s.place(name), "tlscert"))
		if err != nil {
			return err
		}
		if now = cert.SerialNumber.String(); now == old {
			return errors.New("it's still the old one")
		}
		return nil
	})
	return now
}

// awaitGeneration waits until the server counts at least that generation.
func (s *stage) awaitGeneration(t *testing.T, agent *harness.Process, least uint64) {
	t.Helper()
	agent.WaitFor(t, 2*patience, fmt.Sprintf("generation %d", least), func() error {
		if now := s.cluster.Generation(t, s.bot); now < least {
			return fmt.Errorf("it's %d", now)
		}
		return nil
	})
}

// stopLimit is how long an agent may take to end. That all services stop within the
// five seconds that are promised is said by its exit code; the rest is for a machine
// that gives a process little of its time.
const stopLimit = 15 * time.Second

// stop ends the agent as a service manager does.
func stop(t *testing.T, agent *harness.Process) {
	t.Helper()
	began := time.Now()
	result := agent.Terminate(t)
	require.Zero(t, result.ExitCode, "exit code after SIGTERM")
	require.Less(t, time.Since(began), stopLimit)
}

// state is a service in the answer of /readyz.
type state struct {
	State       string
	Ready       bool
	Message     string
	NotAfter    time.Time `json:"not_after"`
	SecondsLeft int64     `json:"seconds_left"`
	LastError   string    `json:"last_error"`
	Failures    int       `json:"consecutive_failures"`
}

// diagnostics is the agent's own address for questions; the configuration says
// diag_addr: 127.0.0.1:0, and the log which port that was.
func diagnostics(t *testing.T, agent *harness.Process) string {
	t.Helper()
	served := regexp.MustCompile(`Diagnostics are served.*?address=(127\.0\.0\.1:\d+)`)
	var address string
	agent.WaitFor(t, patience, "the diagnostics' address", func() error {
		found := served.FindStringSubmatch(agent.Stderr.String())
		if found == nil {
			return errors.New("not in the log yet")
		}
		address = "http://" + found[1]
		return nil
	})
	return address
}

// get asks the diagnostics server.
func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(content)
}

// readyz asks for all services.
func readyz(t *testing.T, address string) (code int, ready bool, services map[string]state) {
	t.Helper()
	code, body := get(t, address+"/readyz")
	var answer struct {
		Ready    bool
		Services map[string]state
	}
	require.NoError(t, json.Unmarshal([]byte(body), &answer), body)
	return code, answer.Ready, answer.Services
}

// awaitReady waits until every service is ready.
func awaitReady(t *testing.T, agent *harness.Process, address string) map[string]state {
	t.Helper()
	var services map[string]state
	agent.WaitFor(t, patience, "ready", func() error {
		code, ready, all := readyz(t, address)
		services = all
		if code != http.StatusOK || !ready {
			return fmt.Errorf("%d: %+v", code, all)
		}
		return nil
	})
	return services
}

// contains says whether the agent has logged a text.
func contains(agent *harness.Process, text string) bool {
	return strings.Contains(agent.Stderr.String(), text)
}
