package identity

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rollcall/cluster"
	"rollcall/failure"
)

// writeTbot leaves a storage directory as the official agent does.
func writeTbot(t testing.TB, path string, creds *cluster.Credentials, tokenHash string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{
		tbotKey:       creds.Key.PrivatePEM,
		tbotPublic:    creds.Key.PublicSSH,
		tbotTLSCert:   creds.TLSCert,
		tbotSSHCert:   creds.SSHCert,
		tbotTLSCAs:    bytes.Join(creds.TLSCACerts, []byte("$")),
		tbotSSHCAs:    bytes.Join(creds.SSHCACerts, []byte("$")),
		tbotTokenHash: []byte(tokenHash),
		tbotWriteTest: {},
		fileLock:      {},
	}
	require.NoError(t, os.MkdirAll(path, 0o700))
	for name, data := range files {
		require.NoError(t, os.WriteFile(filepath.Join(path, name), data, 0o600))
	}
	delete(files, fileLock)
	return files
}

// backedUp is what all backups together hold.
func backedUp(t *testing.T, path string) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	for _, name := range names(t, path) {
		if !strings.HasPrefix(name, backupPrefix) {
			continue
		}
		for _, file := range names(t, filepath.Join(path, name)) {
			data, err := os.ReadFile(filepath.Join(path, name, file))
			require.NoError(t, err)
			require.NotContains(t, all, file)
			all[file] = data
		}
	}
	return all
}

func requireNoTbot(t *testing.T, path string) {
	t.Helper()
	for _, name := range tbotFiles {
		require.NoFileExists(t, filepath.Join(path, name))
	}
}

func TestImport(t *testing.T) {
	ca := newAuthority(t)
	creds := ca.issue(7, time.Now(), time.Hour)
	path := filepath.Join(t.TempDir(), "storage")
	files := writeTbot(t, path, creds, HashToken("the-token")+"\n")
	d := open(t, path)

	backup, err := d.Import()
	require.NoError(t, err)
	require.DirExists(t, filepath.Join(path, backup))
	require.Equal(t, files, backedUp(t, path))
	requireNoTbot(t, path)
	requirePrivate(t, path)

	got, intent, err := d.Load()
	require.NoError(t, err)
	require.Nil(t, intent)
	require.EqualValues(t, 7, got.Credentials.Generation())
	require.Equal(t, cluster.JoinMethodToken, got.JoinMethod)
	require.Equal(t, HashToken("the-token"), got.TokenHash)
	require.Equal(t, creds.TLSCACerts, got.Credentials.TLSCACerts)
	require.Equal(t, creds.SSHCACerts, got.Credentials.SSHCACerts)

	again, err := d.Import()
	require.NoError(t, err)
	require.Empty(t, again)
}

func TestImportOfKubernetesIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "storage")
	writeTbot(t, path, newAuthority(t).issue(0, time.Now(), time.Hour), "")
	d := open(t, path)
	_, err := d.Import()
	require.NoError(t, err)
	got, _, err := d.Load()
	require.NoError(t, err)
	require.Equal(t, cluster.JoinMethodKubernetes, got.JoinMethod)
}

// Whatever the moment of the kill: the next start has the identity, all of the
// originals are kept, and none of them is where the official agent would present
// it again.
func TestImportKilledAtEachStep(t *testing.T) {
	ca := newAuthority(t)
	creds := ca.issue(7, time.Now(), time.Hour)
	var files map[string][]byte
	eachStep(t,
		func(path string) { files = writeTbot(t, path, creds, HashToken("the-token")) },
		func(d *Directory) error { _, err := d.Import(); return err },
		func(t *testing.T, _ []string, path string) {
			d := open(t, path)
			_, err := d.Import()
			require.NoError(t, err)
			got, intent, err := d.Load()
			require.NoError(t, err)
			require.Nil(t, intent)
			require.EqualValues(t, 7, got.Credentials.Generation())
			require.Equal(t, files, backedUp(t, path))
			requireNoTbot(t, path)
		})
}

// Whoever goes back to the official agent and comes here again brings a later
// generation; the one that lies here is spent.
func TestImportAfterTheOfficialAgentRanAgain(t *testing.T) {
	ca := newAuthority(t)
	now := time.Now()
	path := filepath.Join(t.TempDir(), "storage")
	d := open(t, path)
	require.NoError(t, d.Save(Stored{Credentials: ca.issue(7, now, time.Hour), JoinMethod: "token", TokenHash: HashToken("t")}))
	writeTbot(t, path, ca.issue(9, now.Add(time.Minute), time.Hour), HashToken("t"))
	_, err := d.Import()
	require.NoError(t, err)
	got, _, err := d.Load()
	require.NoError(t, err)
	require.EqualValues(t, 9, got.Credentials.Generation())

	// Its older files don't win.
	writeTbot(t, path, ca.issue(8, now.Add(30*time.Second), time.Hour), HashToken("t"))
	_, err = d.Import()
	require.NoError(t, err)
	got, _, err = d.Load()
	require.NoError(t, err)
	require.EqualValues(t, 9, got.Credentials.Generation())
	requireNoTbot(t, path)
}

func TestImportFindsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "storage")
	d := open(t, path)
	// Empty files are what the official agent's start leaves before a join.
	for _, name := range []string{tbotKey, tbotTLSCert, tbotWriteTest} {
		require.NoError(t, os.WriteFile(filepath.Join(path, name), nil, 0o600))
	}
	backup, err := d.Import()
	require.NoError(t, err)
	require.Empty(t, backup)
	_, _, err = d.Load()
	require.ErrorIs(t, err, ErrEmpty)
}

func TestImportOfDamagedIdentity(t *testing.T) {
	creds := newAuthority(t).issue(7, time.Now(), time.Hour)
	for name, damage := range map[string]func(path string) error{
		"half a key":        func(path string) error { return os.Truncate(filepath.Join(path, tbotKey), 100) },
		"empty certificate": func(path string) error { return os.Truncate(filepath.Join(path, tbotTLSCert), 0) },
		"no key":            func(path string) error { return os.Remove(filepath.Join(path, tbotKey)) },
		"a directory": func(path string) error {
			_ = os.Remove(filepath.Join(path, tbotKey))
			return os.Mkdir(filepath.Join(path, tbotKey), 0o700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "storage")
			writeTbot(t, path, creds, "")
			require.NoError(t, damage(path))
			before := names(t, path)
			_, err := open(t, path).Import()
			require.ErrorIs(t, err, ErrUnusable)
			require.Equal(t, failure.Configuration, failure.KindOf(err))
			require.NotContains(t, err.Error(), "PRIVATE KEY")
			require.Equal(t, before, names(t, path), "what can't be read stays where it is")
		})
	}
}
