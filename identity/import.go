package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"

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

// tbotFiles are all that the official agent keeps, its lock apart.
var tbotFiles = [...]string{tbotKey, tbotPublic, tbotTLSCert, tbotSSHCert, tbotTLSCAs, tbotSSHCAs, tbotTokenHash, tbotWriteTest}

// backupPrefix begins the names of the directories that its files are moved to.
const backupPrefix = "tbot-backup-"

// Import takes over what the official agent left in the directory, under the
// lock that both agents hold while they run. Its files are moved into a backup
// directory whose name is returned; "" means that there was nothing to import.
//
// The identity is durable in our own file before any of the originals moves, and
// a move that was interrupted is finished by the next Import: originals that
// stayed in place would let the official agent present a generation that is
// spent. If it ran on the directory meanwhile, its identity is the newer one,
// and is imported again.
func (d *Directory) Import() (string, error) {
	if !d.anyTbot() {
		return "", nil
	}
	own, err := d.read(fileIdentity)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", nil // Load says what is wrong with it
	}
	stored, err := d.readTbot()
	switch {
	case own == nil && (err != nil || stored == nil):
		return "", trace.Wrap(err)
	case own == nil, err == nil && stored != nil && newer(stored, own) && !sameIdentity(stored, own):
		if err := d.Save(*stored); err != nil {
			return "", trace.Wrap(err)
		}
	}
	return d.moveTbot()
}

// anyTbot says whether one of the official agent's own files is there.
func (d *Directory) anyTbot() bool {
	for _, name := range tbotFiles {
		if _, err := d.root.Lstat(name); err == nil {
			return true
		}
	}
	return false
}

func sameIdentity(a, b *Stored) bool {
	return bytes.Equal(a.Credentials.TLSCert, b.Credentials.TLSCert)
}

// moveTbot moves the official agent's files into a fresh backup directory.
func (d *Directory) moveTbot() (string, error) {
	backup, err := d.makeBackup()
	if err != nil {
		return "", trace.Wrap(err)
	}
	for _, name := range tbotFiles {
		if err := d.rename(name, path.Join(backup, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", trace.Wrap(err)
		}
	}
	return backup, trace.NewAggregate(d.syncDir(backup), d.sync())
}

// makeBackup makes a directory named for the time.
func (d *Directory) makeBackup() (string, error) {
	name := backupPrefix + d.now().UTC().Format("20060102T150405Z")
	for i := 1; ; i++ {
		backup := name
		if i > 1 {
			backup = fmt.Sprintf("%s-%d", name, i)
		}
		d.step("mkdir " + backup)
		if err := d.root.Mkdir(backup, 0o700); !errors.Is(err, fs.ErrExist) {
			return backup, trace.Wrap(err)
		}
	}
}

// readTbot reads the official agent's identity, nil if there's none. Empty
// files are what its start leaves before a join.
func (d *Directory) readTbot() (*Stored, error) {
	files := make(map[string][]byte)
	for _, name := range []string{tbotKey, tbotTLSCert, tbotSSHCert, tbotTLSCAs, tbotSSHCAs, tbotTokenHash} {
		data, err := d.readFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, failure.Wrap(failure.Configuration, unusable(err),
				"the official agent's file %s can't be read (%s): mend or remove it", filepath.Join(d.path, name), cause(err))
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
	return &Stored{Credentials: creds, JoinMethod: method, TokenHash: string(bytes.TrimSpace(files[tbotTokenHash]))}, nil
}

func splitTbot(data []byte) [][]byte {
	if len(data) == 0 {
		return nil
	}
	return bytes.Split(data, []byte(tbotSeparator))
}
