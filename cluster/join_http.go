package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

// The HTTP endpoints that bots joined through before v17. Proxies still serve
// theirs; auth servers dropped it in v18.
const (
	proxyJoinPath = "/v1/webapi/host/credentials"
	authJoinPath  = "/v2/tokens/register"
)

// joinHTTP posts the request as JSON.
func (c *Cluster) joinHTTP(ctx context.Context, url string, config *tls.Config, message *types.RegisterUsingTokenRequest) (*proto.Certs, error) {
	content, err := json.Marshal(message)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(content))
	if err != nil {
		return nil, trace.Wrap(err)
	}
	req.Header.Set("Content-Type", "application/json")
	status, body, err := c.doHTTP(req, config)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	if isMissingEndpoint(status, body) {
		return nil, failure.New(failure.Configuration,
			"the server at %s knows no joins there (HTTP status %d): check that it's the cluster's address and not another server's", req.URL.Host, status)
	}
	if status != http.StatusOK {
		return nil, httpError(status, body)
	}
	certs := &proto.Certs{}
	if err := json.Unmarshal(body, certs); err != nil {
		return nil, failure.Wrap(failure.Refused, err,
			"the server took the join but its answer isn't a set of certificates: is something other than Teleport answering there?")
	}
	return certs, nil
}

// isMissingEndpoint tells "no such endpoint" from Teleport's own "no such
// token", which also comes with 404 but as an error object.
func isMissingEndpoint(status int, body []byte) bool {
	switch status {
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	case http.StatusNotFound:
		var answer struct {
			Error struct{ Message string }
		}
		if json.Unmarshal(body, &answer) != nil || answer.Error.Message == "" {
			return true
		}
		return isMissingPathText(answer.Error.Message)
	default:
		return false
	}
}

// statusError keeps the HTTP status of an answer beside the error that the
// server meant.
type statusError struct {
	status int
	// foreign: the answer isn't in Teleport's form.
	foreign bool
	err     error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// httpError turns an answer into the error that the server meant.
func httpError(status int, body []byte) error {
	if !json.Valid(body) {
		// A load balancer's page, not Teleport's words.
		return &statusError{status: status, foreign: true, err: errors.New(http.StatusText(status))}
	}
	err := trace.ReadError(status, body)
	if err == nil {
		err = errors.New(http.StatusText(status))
	}
	return &statusError{status: status, err: err}
}
