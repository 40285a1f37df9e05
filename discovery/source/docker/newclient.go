package docker

import (
	"github.com/docker/docker/client"

	"rollcall/failure"
)

// NewClient returns a client of the Engine that the options and the environment
// name, for who may do more there than look. Nothing is asked yet. The caller
// closes it.
func NewClient(o *Options, getenv func(string) string) (*client.Client, error) {
	e, err := endpointOf(o, getenv)
	if err != nil {
		return nil, err
	}
	options := []client.Opt{client.WithHost(e.host), client.WithUserAgent("rollcall")}
	if e.tls != (TLSOptions{}) {
		options = append(options, client.WithTLSClientConfig(e.tls.CA, e.tls.Cert, e.tls.Key), client.WithScheme("https"))
	}
	options = append(options, client.WithVersion(e.version), client.WithAPIVersionNegotiation())
	docker, err := client.NewClientWithOpts(options...)
	return docker, failure.Wrap(failure.Configuration, err, "the Docker Engine %s: its client can't be set up: %v", e.host, err)
}
