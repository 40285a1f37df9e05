package harness

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"time"
)

// FakeServiceAccountIssuer stands in for a Kubernetes API server's token
// issuer: it has a key of its own and signs ServiceAccount tokens with it. It
// is fake in that no cluster is behind it; Teleport checks its tokens in
// earnest.
type FakeServiceAccountIssuer struct {
	key   *rsa.PrivateKey
	keyID string
}

// ServiceAccount says what to put into a token. Zero values are filled in with
// what a valid token has.
type ServiceAccount struct {
	// Namespace and Name are the ServiceAccount's.
	Namespace, Name string
	// Pod is the pod that the token is bound to; "-": not bound to any.
	Pod string
	// Audience must be the Teleport cluster's name.
	Audience string
	// IssuedAt and Expires are at most 30 minutes apart; zero: now, and 10
	// minutes later.
	IssuedAt, Expires time.Time
}

// NewFakeServiceAccountIssuer makes an issuer with a fresh key.
func NewFakeServiceAccountIssuer(t T) *FakeServiceAccountIssuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatalf("issuer's key: %v", err)
	}
	return &FakeServiceAccountIssuer{key: key, keyID: unique(t, "key")}
}

// JWKS is the issuer's public key as a JSON Web Key Set, like the API server's
// /openid/v1/jwks.
func (i *FakeServiceAccountIssuer) JWKS() string {
	set := map[string]any{"keys": []any{map[string]string{
		"use": "sig", "kty": "RSA", "alg": "RS256", "kid": i.keyID,
		"n": encode(i.key.N.Bytes()),
		"e": encode(big.NewInt(int64(i.key.E)).Bytes()),
	}}}
	return string(mustJSON(set))
}

// Mint signs a token.
func (i *FakeServiceAccountIssuer) Mint(t T, account ServiceAccount) string {
	t.Helper()
	header := map[string]string{"alg": "RS256", "kid": i.keyID, "typ": "JWT"}
	signed := encode(mustJSON(header)) + "." + encode(mustJSON(account.claims()))
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatalf("sign a token: %v", err)
	}
	return signed + "." + encode(signature)
}

// claims are those of a projected, pod-bound token.
func (a ServiceAccount) claims() map[string]any {
	if a.IssuedAt.IsZero() {
		a.IssuedAt = time.Now()
	}
	if a.Expires.IsZero() {
		a.Expires = a.IssuedAt.Add(10 * time.Minute)
	}
	if a.Pod == "" {
		a.Pod = a.Name + "-0"
	}
	bound := map[string]any{
		"namespace":      a.Namespace,
		"serviceaccount": map[string]string{"name": a.Name, "uid": "00000000-0000-0000-0000-000000000001"},
	}
	if a.Pod != "-" {
		bound["pod"] = map[string]string{"name": a.Pod, "uid": "00000000-0000-0000-0000-000000000002"}
	}
	return map[string]any{
		"aud":           []string{a.Audience},
		"exp":           a.Expires.Unix(),
		"iat":           a.IssuedAt.Unix(),
		"nbf":           a.IssuedAt.Unix(),
		"iss":           "https://kubernetes.default.svc.cluster.local",
		"sub":           "system:serviceaccount:" + a.Namespace + ":" + a.Name,
		"kubernetes.io": bound,
	}
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// mustJSON encodes maps of strings and numbers, which can't fail.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}
