package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"regexp"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"

	"rollcall/failure"
)

// endpoint is how the Engine is reached.
type endpoint struct {
	host    string
	tls     TLSOptions
	version string // of the API, "" to ask
	timeout time.Duration
}

// endpointOf returns where the options and the environment say that the Engine
// is.
func endpointOf(o *Options, getenv func(string) string) (endpoint, error) {
	e := endpoint{host: o.engine(getenv), tls: o.TLS, version: getenv("DOCKER_API_VERSION"), timeout: o.Timeout}
	if err := checkEngine(e.host); err != nil {
		return e, failure.New(failure.Configuration, "the Docker Engine %q (DOCKER_HOST): %v", e.host, err)
	}
	if dir := getenv("DOCKER_CERT_PATH"); dir != "" && o.Host == "" && e.tls == (TLSOptions{}) {
		e.tls = TLSOptions{
			CA:   filepath.Join(dir, "ca.pem"),
			Cert: filepath.Join(dir, "cert.pem"),
			Key:  filepath.Join(dir, "key.pem"),
		}
	}
	return e, nil
}

// connection is a client of one version of the API. Who gets an error drops it
// and makes a new one, so that an Engine that comes back with another version
// is asked for it.
type connection struct {
	*client.Client
	transport *http.Transport
}

// connect returns a connection to an Engine that answers. subscribed is called
// when a stream of events has begun; nil if nobody cares.
func (e endpoint) connect(ctx context.Context, subscribed func()) (*connection, error) {
	transport := &http.Transport{
		MaxIdleConns:          6,
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   e.timeout,
		ResponseHeaderTimeout: e.timeout,
	}
	doer := &http.Client{Transport: transport, CheckRedirect: client.CheckRedirect}
	options := []client.Opt{client.WithHTTPClient(doer), client.WithHost(e.host), client.WithUserAgent("rollcall")}
	if e.tls != (TLSOptions{}) {
		options = append(options, client.WithTLSClientConfig(e.tls.CA, e.tls.Cert, e.tls.Key), client.WithScheme("https"))
	}
	options = append(options, func(*client.Client) error {
		doer.Transport = &guard{next: transport, subscribed: subscribed}
		return nil
	}, client.WithVersion(e.version), client.WithAPIVersionNegotiation())
	docker, err := client.NewClientWithOpts(options...)
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, err, "the Docker Engine %s: its client can't be set up: %v", e.host, err)
	}
	c := &connection{Client: docker, transport: transport}
	// The client would negotiate by itself, and go on without a word if that
	// fails.
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	ping, err := c.Ping(ctx)
	if err != nil {
		c.close()
		return nil, e.explain(err, "_ping")
	}
	c.NegotiateAPIVersionPing(ping)
	return c, nil
}

func (c *connection) close() {
	if c != nil {
		c.transport.CloseIdleConnections()
	}
}

// explain turns what the client says into a sentence and a kind.
func (e endpoint) explain(err error, call string) error {
	if err == nil {
		return nil
	}
	name := fmt.Sprintf("the Docker Engine %s", e.host)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return failure.Wrap(failure.Configuration, err, "%s: no permission to use the socket; put a read-only proxy in front of it (docs/discovery.md); "+
			"the group docker would do as well, but whoever is in it is root on this host", name)
	case errors.Is(err, context.DeadlineExceeded):
		return failure.Wrap(failure.Unreachable, err, "%s didn't answer %s within %s", name, call, e.timeout)
	case errors.Is(err, context.Canceled):
		return err
	case client.IsErrConnectionFailed(err):
		return failure.Wrap(failure.Unreachable, err, "%s can't be reached; does it run? (%v)", name, err)
	case errdefs.IsPermissionDenied(err), errdefs.IsUnauthorized(err):
		return failure.Wrap(failure.Refused, err, "%s, or the proxy in front of it, refuses %s; GET of _ping, containers, networks and events must be allowed", name, call)
	case errdefs.IsInvalidArgument(err):
		return failure.Wrap(failure.Configuration, err, "%s doesn't take %s: %v", name, call, err)
	default:
		return failure.Wrap(failure.Transient, err, "%s: %s failed: %v", name, call, err)
	}
}

// guard lets through only calls that look. It stands below the client, so that
// no later change of this package can do more by mistake.
type guard struct {
	next       http.RoundTripper
	subscribed func()
}

// RoundTrip refuses all calls but those in looking.
func (g *guard) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method != http.MethodGet && request.Method != http.MethodHead || !looking(request.URL.Path) {
		return nil, failure.New(failure.Refused, "%s %s isn't a call that only looks", request.Method, request.URL.Path)
	}
	response, err := g.next.RoundTrip(request)
	if err == nil && g.subscribed != nil && response.StatusCode == http.StatusOK && filepath.Base(request.URL.Path) == "events" {
		g.subscribed()
	}
	return response, err
}

// look is what all of our calls look like.
var look = regexp.MustCompile(`^(/v[0-9.]+)?/(_ping|events|networks|containers/json|containers/[a-zA-Z0-9][a-zA-Z0-9_.-]*/json)$`)

// looking says if a path is one of the five that we call.
func looking(path string) bool {
	return look.MatchString(path)
}
