package identity

import (
	"bytes"
	"errors"
	"io/fs"
	"path"

	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/failure"
)

// Files of the official agent's storage (lib/tbot/identity of Teleport 14).
const (
	tbotKey       = "key"
	tbotPublic    = "key.pub"
	tbotTLSCert   = "tlscert"
	tbotSSHCert   = "key-cert.pub"
	tbotTLSCAs    = "tlscacerts"
	tbotSSHCAs    = "sshcacerts"
	tbotTokenHash = "tokenhash"
	tbotWriteTest = ".write-test"
)

// tbotSeparator stands between the items of its two CA files.
const tbotSeparator = "$"

// Import takes over what the official agent left in the directory, once, under
// the lock that both agents hold while they run. Its files are moved into a
// backup directory whose name is returned; "" means that there was nothing to
// import.
//
// The identity is durable in our own file before any of the originals moves.
func (d *Directory) Import() (string, error) {
	if _, err := d.root.Lstat(fileIdentity); !errors.Is(err, fs.ErrNotExist) {
		return "", trace.Wrap(err)
	}
	stored, err := d.readTbot()
	if err != nil || stored == nil {
		return "", trace.Wrap(err)
	}
	if err := d.Save(*stored); err != nil {
		return "", trace.Wrap(err)
	}
	backup := "tbot-backup-" + d.now().UTC().Format("20060102T150405Z")
	if err := d.root.Mkdir(backup, 0o700); err != nil {
		return "", trace.Wrap(err)
	}
	for _, name := range []string{tbotKey, tbotPublic, tbotTLSCert, tbotSSHCert, tbotTLSCAs, tbotSSHCAs, tbotTokenHash, tbotWriteTest} {
		if err := d.root.Rename(name, path.Join(backup, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", trace.Wrap(err)
		}
	}
	return backup, trace.Wrap(d.sync())
}

// readTbot reads the official agent's identity, nil if there's none. Empty
// files are what its start leaves before a join.
func (d *Directory) readTbot() (*Stored, error) {
	files := make(map[string][]byte)
	for _, name := range []string{tbotKey, tbotTLSCert, tbotSSHCert, tbotTLSCAs, tbotSSHCAs, tbotTokenHash} {
		data, err := d.readFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, trace.Wrap(err)
		}
		files[name] = data
	}
	if len(files[tbotKey]) == 0 && len(files[tbotTLSCert]) == 0 {
		return nil, nil
	}
	creds, err := cluster.RestoreCredentials(files[tbotKey], files[tbotTLSCert], files[tbotSSHCert],
		splitTbot(files[tbotTLSCAs]), splitTbot(files[tbotSSHCAs]))
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, unusable(err),
			"the storage directory %s holds an identity of the official agent that can't be read (%s): restore it, or move its files away and give the bot a new token", d.path, cause(err))
	}
	method := cluster.JoinMethodKubernetes
	if creds.Renewable() {
		method = cluster.JoinMethodToken
	}
	return &Stored{Credentials: creds, JoinMethod: method, TokenHash: string(files[tbotTokenHash])}, nil
}

func splitTbot(data []byte) [][]byte {
	if len(data) == 0 {
		return nil
	}
	return bytes.Split(data, []byte(tbotSeparator))
}
