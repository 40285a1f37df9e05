package harness

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Answer is what the proxy, or the application behind it, answered.
type Answer struct {
	Status int
	Body   string
}

// Fetch gets a path of an application through the proxy with the certificate
// and key in two files, once. A connection that fails is an error, any answer
// isn't: the proxy answers 403 or a redirect to a certificate it doesn't know.
func (c *Cluster) Fetch(ctx context.Context, app App, certFile, keyFile, path string) (Answer, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return Answer{}, err
	}
	return c.FetchWith(ctx, app, cert, path)
}

// FetchWith is Fetch with a certificate in memory.
func (c *Cluster) FetchWith(ctx context.Context, app App, cert tls.Certificate, path string) (Answer, error) {
	info := c.Info()
	ca, err := os.ReadFile(info.ProxyCA)
	if err != nil {
		return Answer{}, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return Answer{}, fmt.Errorf("%s: no certificate", info.ProxyCA)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, c.proxyIP())
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(app, path), nil)
	if err != nil {
		return Answer{}, err
	}
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return Answer{Status: response.StatusCode, Body: string(body)}, err
}

// MustFetch fetches the application's root once and fails the test unless the
// sample itself answers.
func (c *Cluster) MustFetch(t T, app App, sample *Sample, certFile, keyFile string) {
	t.Helper()
	if err := c.TryFetch(t.Context(), app, sample, certFile, keyFile); err != nil {
		t.Fatalf("fetch %s: %v", app.Name, err)
	}
}

// TryFetch fetches once and returns an error unless the sample itself answers;
// with Eventually it bridges the official agent's 403 race.
func (c *Cluster) TryFetch(ctx context.Context, app App, sample *Sample, certFile, keyFile string) error {
	answer, err := c.Fetch(ctx, app, certFile, keyFile, "/")
	if err != nil {
		return err
	}
	if answer.Status != http.StatusOK || !strings.HasPrefix(answer.Body, sample.Text+"\n") {
		return fmt.Errorf("answer %d: %.200s", answer.Status, answer.Body)
	}
	return nil
}

// CurlArgs is the curl command that does the same as Fetch.
func (c *Cluster) CurlArgs(app App, certFile, keyFile, path string) []string {
	host, _, _ := net.SplitHostPort(c.proxyIP())
	_, port, _ := net.SplitHostPort(c.Info().ProxyAddr)
	return []string{
		"curl", "--silent", "--show-error", "--fail",
		"--cacert", c.Info().ProxyCA,
		"--cert", certFile, "--key", keyFile,
		"--resolve", app.PublicAddr + ":" + port + ":" + host,
		c.url(app, path),
	}
}

// CurlLine is CurlArgs as one line to type.
func (c *Cluster) CurlLine(app App, certFile, keyFile, path string) string {
	words := c.CurlArgs(app, certFile, keyFile, path)
	for i, word := range words {
		if strings.ContainsAny(word, " '\"$\\&;()*?<>|") {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// Curl runs CurlArgs and returns the body.
func (c *Cluster) Curl(ctx context.Context, app App, certFile, keyFile, path string) (string, error) {
	args := c.CurlArgs(app, certFile, keyFile, path)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var problems strings.Builder
	cmd.Stderr = &problems
	body, err := cmd.Output()
	if err != nil {
		return string(body), fmt.Errorf("%w: %s", err, strings.TrimSpace(problems.String()))
	}
	return string(body), nil
}

func (c *Cluster) url(app App, path string) string {
	_, port, _ := net.SplitHostPort(c.Info().ProxyAddr)
	return "https://" + app.PublicAddr + ":" + port + path
}

// proxyIP is the proxy's address without a name to look up.
func (c *Cluster) proxyIP() string {
	_, port, _ := net.SplitHostPort(c.Info().ProxyAddr)
	return net.JoinHostPort("127.0.0.1", port)
}
