package e2e

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// oidGeneration is where Teleport writes a certificate's generation.
var oidGeneration = asn1.ObjectIdentifier{1, 3, 9999, 1, 14}

// leftover is what a killed agent left in its storage, read without its help.
type leftover struct {
	// generation of the identity in place, and of a reply that was written and
	// not yet put in place; 0: none.
	generation, next uint64
	// intent is the generation that was about to be presented; 0: none.
	intent uint64
}

// held is the latest generation that is on the disk.
func (l leftover) held() uint64 { return max(l.generation, l.next) }

// readStorage reads a storage directory that nobody works on.
func readStorage(dir string) (leftover, error) {
	var l leftover
	var err error
	if l.generation, err = storedGeneration(filepath.Join(dir, "identity.json")); err != nil {
		return l, err
	}
	// Reserved space and half a reply aren't errors: the agent is to throw
	// them away.
	l.next, _ = storedGeneration(filepath.Join(dir, "identity.json.next"))
	content, err := os.ReadFile(filepath.Join(dir, "intent.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return l, err
	}
	var intent struct{ Generation uint64 }
	err = json.Unmarshal(content, &intent)
	l.intent = intent.Generation
	return l, err
}

// storedGeneration checks a stored identity and returns its generation.
func storedGeneration(path string) (uint64, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	body, sum, found := bytes.Cut(content, []byte("\n"))
	want := sha256.Sum256(body)
	if !found || string(bytes.TrimSpace(sum)) != "sha256:"+hex.EncodeToString(want[:]) {
		return 0, fmt.Errorf("%s: wrong checksum", path)
	}
	var record struct {
		TLSCert string `json:"tls_cert"`
	}
	if err := json.Unmarshal(body, &record); err != nil {
		return 0, err
	}
	block, _ := pem.Decode([]byte(record.TLSCert))
	if block == nil {
		return 0, fmt.Errorf("%s: no certificate", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return 0, err
	}
	for _, name := range cert.Subject.Names {
		if text, ok := name.Value.(string); ok && name.Type.Equal(oidGeneration) {
			return strconv.ParseUint(text, 10, 64)
		}
	}
	return 0, fmt.Errorf("%s: the certificate has no generation", path)
}

// commonFiles are in every set.
var commonFiles = []string{
	"tlscert", "key", "key.pub", "key-cert.pub", "identity",
	"teleport-host-ca.crt", "teleport-user-ca.crt", "teleport-database-ca.crt",
}

var (
	// applicationFiles are those of an application output with
	// specific_tls_naming.
	applicationFiles = append([]string{"tls.crt", "tls.key", "tls.cas"}, commonFiles...)
	identityFiles    = append([]string{"ssh_config", "known_hosts"}, commonFiles...)
)

// whole checks a set that nobody writes: all files there, and certificates and
// keys of one issue.
func whole(dir string, names []string) error {
	set := map[string][]byte{}
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if len(content) == 0 {
			return fmt.Errorf("%s is empty", name)
		}
		set[name] = content
	}
	if _, err := tls.X509KeyPair(set["tlscert"], set["key"]); err != nil {
		return fmt.Errorf("tlscert and key: %w", err)
	}
	if !bytes.Contains(set["identity"], bytes.TrimSpace(set["tlscert"])) {
		return errors.New("identity and tlscert are of several issues")
	}
	if set["tls.crt"] == nil {
		return nil
	}
	if !bytes.Equal(set["tlscert"], set["tls.crt"]) || !bytes.Equal(set["key"], set["tls.key"]) {
		return errors.New("tls.* and tlscert are of several issues")
	}
	return nil
}
