package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
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

// joinHTTP posts the request as JSON. missing says that the server has no such
// endpoint, and so didn't act.
func (c *Cluster) joinHTTP(ctx context.Context, url string, config *tls.Config, message *types.RegisterUsingTokenRequest) (certs *proto.Certs, missing bool, err error) {
	content, err := json.Marshal(message)
	if err != nil {
		return nil, false, trace.Wrap(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(content))
	if err != nil {
		return nil, false, trace.Wrap(err)
	}
	req.Header.Set("Content-Type", "application/json")
	status, body, err := c.doHTTP(req, config)
	if err != nil {
		return nil, false, trace.Wrap(err)
	}
	if status != http.StatusOK {
		return nil, isMissingEndpoint(status, body), joinHTTPError(status, body)
	}
	certs = &proto.Certs{}
	if err := json.Unmarshal(body, certs); err != nil {
		return nil, false, failure.Wrap(failure.Refused, err,
			"the server took the join but its answer isn't a set of certificates: is something other than Teleport answering there?")
	}
	return certs, false, nil
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

// joinHTTPError turns an answer into the error that the server meant.
func joinHTTPError(status int, body []byte) error {
	if !json.Valid(body) {
		// A load balancer's page, not Teleport's words.
		body = []byte(http.StatusText(status))
	}
	err := trace.ReadError(status, body)
	switch {
	case status == http.StatusTooManyRequests:
		return failure.Wrap(failure.Transient, err, "the cluster limits how often it may be asked: trying again later")
	case status >= http.StatusInternalServerError && !trace.IsNotImplemented(err):
		return failure.Wrap(failure.Transient, err, "the cluster couldn't handle the join just now (HTTP status %d: %s)", status, firstLine(err))
	case status >= http.StatusMultipleChoices && status < http.StatusBadRequest:
		return failure.Wrap(failure.Configuration, err, "the server redirects the join to another address (HTTP status %d): set proxy_server to the proxy's own address", status)
	}
	return err
}
