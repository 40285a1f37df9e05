package identity

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gravitational/trace"

	"rollcall/failure"
)

// credentialPrefix marks a token that systemd hands over.
const credentialPrefix = "credential:"

// defaultServiceAccountToken is where Kubernetes mounts a pod's token.
const defaultServiceAccountToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// TokenSource reads the join token each time it's needed: a file may be
// replaced or removed while the agent runs.
type TokenSource struct {
	Options OnboardingOptions
	// Credential reads a systemd credential; fs.ErrNotExist if it isn't set.
	Credential func(name string) ([]byte, error)
	// Getenv is os.Getenv, or a test's.
	Getenv func(string) string
}

// Token returns the join token. A token whose file or credential is absent or
// unreadable gives fs.ErrNotExist in the chain: a spent token is often deleted,
// which is no reason to join again.
func (s TokenSource) Token() (string, error) {
	value := s.Options.Token
	switch {
	case value == "":
		return "", failure.Wrap(failure.Configuration, fs.ErrNotExist,
			"no join token is configured: set onboarding.token")
	case strings.HasPrefix(value, credentialPrefix):
		return s.fromCredential(strings.TrimPrefix(value, credentialPrefix))
	case filepath.IsAbs(value):
		return fromFile("the join token", value)
	default:
		return value, nil
	}
}

func (s TokenSource) fromCredential(name string) (string, error) {
	data, err := s.Credential(name)
	var told *failure.Error
	switch {
	case errors.As(err, &told):
		// It's been said already what is wrong: absent, too large, no file.
		return "", failure.Wrap(failure.Configuration, errors.Join(fs.ErrNotExist, err), "%s", told.Sentence)
	case err != nil:
		return "", failure.Wrap(failure.Configuration, errors.Join(fs.ErrNotExist, err),
			"the systemd credential %q isn't there: add LoadCredential=%s:/path/of/the/token to the unit", name, name)
	}
	return nonEmpty(string(data), "the systemd credential "+name)
}

// ServiceAccountToken returns the Kubernetes ServiceAccount's token, and the
// path that it was read from. Kubernetes replaces the file as the token ages.
func (s TokenSource) ServiceAccountToken() (string, error) {
	path := s.Options.Kubernetes.TokenPath
	if path == "" {
		path = s.Getenv("KUBERNETES_TOKEN_PATH")
	}
	if path == "" {
		path = defaultServiceAccountToken
	}
	return fromFile("the ServiceAccount token", path)
}

func fromFile(what, path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", failure.Wrap(failure.Configuration, errors.Join(fs.ErrNotExist, err),
			"%s can't be read from %s (%s): check the path and that the bot's user may read it", what, path, cause(err))
	}
	return nonEmpty(string(data), path)
}

func nonEmpty(value, where string) (string, error) {
	value = strings.TrimSpace(value)
	if value == "" {
		return "", failure.Wrap(failure.Configuration, trace.Wrap(fs.ErrNotExist), "%s is empty", where)
	}
	return value, nil
}
