package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/gravitational/trace"

	"rollcall/cluster"
)

// record is the identity's file: one file, so that key and certificates can't
// come apart, with a checksum, so that a file that was cut short is known for
// what it is.
type record struct {
	Version    int    `json:"version"`
	JoinMethod string `json:"join_method"`
	TokenHash  string `json:"token_hash,omitempty"`

	PrivateKey string   `json:"private_key"`
	TLSCert    string   `json:"tls_cert"`
	SSHCert    string   `json:"ssh_cert"`
	TLSCAs     []string `json:"tls_cas"`
	SSHCAs     []string `json:"ssh_cas"`
}

const recordVersion = 1

// encode renders a stored identity: a JSON object on the first line, its
// SHA-256 on the second.
func encode(s Stored) ([]byte, error) {
	c := s.Credentials
	body, err := json.Marshal(record{
		Version:    recordVersion,
		JoinMethod: s.JoinMethod,
		TokenHash:  s.TokenHash,
		PrivateKey: string(c.Key.PrivatePEM),
		TLSCert:    string(c.TLSCert),
		SSHCert:    string(c.SSHCert),
		TLSCAs:     texts(c.TLSCACerts),
		SSHCAs:     texts(c.SSHCACerts),
	})
	if err != nil {
		return nil, trace.Wrap(err)
	}
	sum := sha256.Sum256(body)
	return fmt.Appendf(body, "\nsha256:%s\n", hex.EncodeToString(sum[:])), nil
}

// decode reads what encode wrote. Its errors never hold any of the content.
func decode(data []byte) (*Stored, error) {
	body, rest, found := bytes.Cut(data, []byte("\n"))
	if !found {
		return nil, trace.BadParameter("the file was cut short")
	}
	sum := sha256.Sum256(body)
	if want := "sha256:" + hex.EncodeToString(sum[:]) + "\n"; !bytes.HasPrefix(rest, []byte(want)) {
		return nil, trace.BadParameter("the checksum doesn't match: the file was cut short or edited")
	}
	var r record
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, trace.BadParameter("the content isn't a stored identity")
	}
	if r.Version != recordVersion {
		return nil, trace.BadParameter("it was written by a newer rollcall (format %d)", r.Version)
	}
	creds, err := cluster.RestoreCredentials([]byte(r.PrivateKey), []byte(r.TLSCert), []byte(r.SSHCert),
		bytesOf(r.TLSCAs), bytesOf(r.SSHCAs))
	if err != nil {
		return nil, trace.Wrap(err, "the stored identity is unusable")
	}
	return &Stored{Credentials: creds, JoinMethod: r.JoinMethod, TokenHash: r.TokenHash}, nil
}

func texts(in [][]byte) []string {
	out := make([]string, len(in))
	for i, b := range in {
		out[i] = string(b)
	}
	return out
}

func bytesOf(in []string) [][]byte {
	out := make([][]byte, len(in))
	for i, s := range in {
		out[i] = []byte(s)
	}
	return out
}

// HashToken returns the hash by which a join token is recognised without being
// kept; the official agent's file `tokenhash` holds the same.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
