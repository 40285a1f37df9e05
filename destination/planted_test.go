package destination

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rollcall/failure"
)

func captureLog(d *Directory) *bytes.Buffer {
	var out bytes.Buffer
	d.log = slog.New(slog.NewTextHandler(&out, nil))
	return &out
}

// TestPlanted puts something of a stranger's at a name, and looks whether it's
// refused by path, and whether anything outside changed.
func TestPlanted(t *testing.T) {
	const version = "..2026_11_21T06_30_00.123456789"
	link := func(to, name string) func(t *testing.T, path, outside string) string {
		return func(t *testing.T, path, outside string) string {
			text := strings.ReplaceAll(to, "OUTSIDE", outside)
			require.NoError(t, os.Symlink(text, filepath.Join(path, name)))
			return filepath.Join(path, name)
		}
	}
	tests := map[string]struct {
		plant func(t *testing.T, path, outside string) string
		modes []UpdateMode
	}{
		"a file's name":              {link("OUTSIDE/victim", "key"), updateModes},
		"a file's name, dangling":    {link("OUTSIDE/none", "key"), updateModes},
		"a file's name, relative":    {link("../outside/victim", "key"), updateModes},
		"a file's name, nearly ours": {link("..data/tlscert", "key"), updateModes},
		"a folder's name":            {link("OUTSIDE", "sub"), updateModes},
		"..data, absolute":           {link("OUTSIDE", dataName), updateModes},
		"..data, relative":           {link("../outside", dataName), updateModes},
		"..data, nearly a version":   {link(version+"/", dataName), updateModes},
		"the lock":                   {link("OUTSIDE/victim", lockName), updateModes},
		"the manifest":               {link("OUTSIDE/victim", manifestName), updateModes},
		"the current version": {func(t *testing.T, path, outside string) string {
			link(version, dataName)(t, path, outside)
			return link("OUTSIDE", version)(t, path, outside)
		}, updateModes},
		"a file in a folder": {func(t *testing.T, path, outside string) string {
			require.NoError(t, os.Mkdir(filepath.Join(path, "sub"), 0o700))
			return link("OUTSIDE/victim", "sub/key")(t, path, outside)
		}, updateModes},
		"a file in the current version": {func(t *testing.T, path, outside string) string {
			link(version, dataName)(t, path, outside)
			require.NoError(t, os.Mkdir(filepath.Join(path, version), 0o700))
			return link("OUTSIDE/victim", version+"/key")(t, path, outside)
		}, updateModes},
		"a pipe": {func(t *testing.T, path, _ string) string {
			require.NoError(t, unix.Mkfifo(filepath.Join(path, "key"), 0o600))
			return filepath.Join(path, "key")
		}, updateModes},
		"a plain ..data": {func(t *testing.T, path, _ string) string {
			require.NoError(t, os.Mkdir(filepath.Join(path, dataName), 0o700))
			return filepath.Join(path, dataName)
		}, updateModes},
	}
	for name, test := range tests {
		for _, mode := range test.modes {
			t.Run(name+", "+string(mode), func(t *testing.T) {
				top := t.TempDir()
				outside, path := filepath.Join(top, "outside"), filepath.Join(top, "inside")
				put(t, top, Set{"outside/victim": []byte("untouched")})
				require.NoError(t, os.Mkdir(path, 0o700))
				at := test.plant(t, path, outside)
				before := changeTimes(t, outside)

				d := directory(t, path, update(mode), symlinks(SymlinksInsecure))
				_, err := d.Write(t.Context(), setOf("1", "key", "sub/key"))
				require.ErrorContains(t, err, at)
				require.Equal(t, failure.Configuration, failure.KindOf(err), err)
				require.Equal(t, before, changeTimes(t, outside))
				for _, name := range []string{"key", "sub/key"} {
					data, err := d.Read(t.Context(), name)
					require.Error(t, err)
					require.Empty(t, data)
				}
			})
		}
	}
}

// TestAPlantedVersionNameIsPassedBy: a link that has the name that the next
// version would get is neither followed nor touched.
func TestAPlantedVersionNameIsPassedBy(t *testing.T) {
	path, outside := t.TempDir(), t.TempDir()
	d := directory(t, path)
	name := versionName(d.now(), "")
	fixed, err := timeOf(name)
	require.NoError(t, err)
	d.now = fixed
	require.NoError(t, os.Symlink(outside, filepath.Join(path, name)))
	write(t, d, setOf("1", "key"))
	require.Equal(t, setOf("1", "key"), visible(t, path))
	require.Empty(t, visible(t, outside))
	text, err := os.Readlink(filepath.Join(path, name))
	require.NoError(t, err)
	require.Equal(t, outside, text)
}

func TestLinksOnTheWay(t *testing.T) {
	noOpenat2 := func(int, string, *unix.OpenHow) (int, error) { return -1, unix.ENOSYS }
	denied := func(int, string, *unix.OpenHow) (int, error) { return -1, unix.EPERM }
	tests := []struct {
		name    string
		mode    SymlinkMode
		below   string // of the link
		openat2 func(int, string, *unix.OpenHow) (int, error)
		says    string // "" means that it works
	}{
		{name: "secure, the last", mode: SymlinksSecure, says: "is a symbolic link, and `symlinks: secure` follows none"},
		{name: "secure, a parent", mode: SymlinksSecure, below: "a/b", says: "is a symbolic link, and `symlinks: secure` follows none"},
		{name: "try-secure, the last", mode: SymlinksTrySecure, says: "is a symbolic link, and `symlinks: try-secure` follows none"},
		{name: "try-secure, a parent", mode: SymlinksTrySecure, below: "a/b", says: "is a symbolic link, and `symlinks: try-secure` follows none"},
		{name: "insecure, the last", mode: SymlinksInsecure},
		{name: "insecure, a parent", mode: SymlinksInsecure, below: "a/b"},
		{name: "secure, old kernel", mode: SymlinksSecure, openat2: noOpenat2, says: "this kernel has no openat2"},
		{name: "try-secure, old kernel, the last", mode: SymlinksTrySecure, openat2: noOpenat2, says: "is a symbolic link, and `symlinks: try-secure` follows none"},
		{name: "try-secure, old kernel, a parent", mode: SymlinksTrySecure, below: "a/b", openat2: noOpenat2, says: "is a symbolic link, and `symlinks: try-secure` follows none"},
		{name: "insecure, old kernel", mode: SymlinksInsecure, openat2: noOpenat2},
		{name: "try-secure, denied", mode: SymlinksTrySecure, openat2: denied, says: "isn't allowed to write"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			top := t.TempDir()
			require.NoError(t, os.Mkdir(filepath.Join(top, "real"), 0o700))
			require.NoError(t, os.Symlink("real", filepath.Join(top, "link")))
			d := directory(t, filepath.Join(top, "link", test.below), symlinks(test.mode))
			if test.openat2 != nil {
				d.resolver.openat2 = test.openat2
			}
			err := d.Prepare(t.Context())
			if test.says != "" {
				require.ErrorContains(t, err, test.says)
				require.ErrorContains(t, err, filepath.Join(top, "link"))
				require.Equal(t, failure.Configuration, failure.KindOf(err))
				require.Empty(t, hidden(t, filepath.Join(top, "real")))
				return
			}
			require.NoError(t, err)
			write(t, d, setOf("1", "key"))
			require.Equal(t, setOf("1", "key"), visible(t, filepath.Join(top, "real", test.below)))
		})
	}
}

func TestTheRealPathWorksInEveryMode(t *testing.T) {
	for _, mode := range []SymlinkMode{SymlinksSecure, SymlinksTrySecure, SymlinksInsecure} {
		d := directory(t, filepath.Join(t.TempDir(), "a", "b"), symlinks(mode))
		require.NoError(t, d.Prepare(t.Context()))
		write(t, d, setOf("1", "key"))
		require.Equal(t, setOf("1", "key"), visible(t, d.opts.Path))
	}
}

// TestTheRealPathWorksWithoutOpenat2, also a relative one, and one whose parents
// can be passed through but not read.
func TestTheRealPathWorksWithoutOpenat2(t *testing.T) {
	noOpenat2 := func(int, string, *unix.OpenHow) (int, error) { return -1, unix.ENOSYS }
	top := t.TempDir()
	t.Chdir(top)
	for _, path := range []string{filepath.Join(top, "a", "b"), "c/d", "../" + filepath.Base(top) + "/e"} {
		d := directory(t, path)
		d.resolver.openat2 = noOpenat2
		require.NoError(t, d.Prepare(t.Context()))
		write(t, d, setOf("1", "key"))
		require.Equal(t, setOf("1", "key"), visible(t, path))
	}
	fd, err := resolver{openat2: noOpenat2}.open("/", SymlinksTrySecure)
	require.NoError(t, err)
	require.NoError(t, unix.Close(fd))

	needRoot(t, "to become somebody else")
	wall := filepath.Join(reachable(t), "wall")
	require.NoError(t, os.MkdirAll(filepath.Join(wall, "mine"), 0o700))
	require.NoError(t, os.Chown(filepath.Join(wall, "mine"), botID, botID))
	require.NoError(t, os.Chmod(wall, 0o711))
	as(t, botID, func() {
		d := directory(t, filepath.Join(wall, "mine"))
		d.resolver.openat2 = noOpenat2
		write(t, d, setOf("1", "key"))
	})
}

func TestADirectoryThatOthersCanWriteTo(t *testing.T) {
	path := t.TempDir()
	require.NoError(t, os.Chmod(path, 0o777))
	err := directory(t, path, symlinks(SymlinksSecure)).Prepare(t.Context())
	require.ErrorContains(t, err, "can be written by everybody")

	d := directory(t, path)
	log := captureLog(d)
	require.NoError(t, d.Prepare(t.Context()))
	require.NoError(t, d.Prepare(t.Context()))
	require.Equal(t, 1, strings.Count(log.String(), "writable_by=everybody"), log)

	require.NoError(t, os.Chmod(path, 0o770))
	d = directory(t, path)
	log = captureLog(d)
	require.NoError(t, d.Prepare(t.Context()))
	require.Contains(t, log.String(), `writable_by="its group"`)

	require.NoError(t, os.Chmod(path, 0o777|os.ModeSticky))
	d = directory(t, path, symlinks(SymlinksSecure))
	log = captureLog(d)
	require.NoError(t, d.Prepare(t.Context()))
	require.Empty(t, log.String(), "others can't replace what isn't theirs")
}

func TestInPlaceRefusesAHardLinkWhereOthersCanWrite(t *testing.T) {
	path, outside := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	put(t, filepath.Dir(outside), Set{"victim": []byte("untouched")})
	require.NoError(t, os.Link(outside, filepath.Join(path, "key")))
	require.NoError(t, os.Chmod(path, 0o777))
	_, err := directory(t, path, update(UpdateInPlace)).Write(t.Context(), setOf("1", "key"))
	require.ErrorContains(t, err, filepath.Join(path, "key"))
	require.Equal(t, "untouched", string(mustRead(t, outside)))

	// In a directory of one's own the second name is one's own affair.
	require.NoError(t, os.Chmod(path, 0o700))
	write(t, directory(t, path, update(UpdateInPlace)), setOf("1", "key"))
	require.Equal(t, "key of 1\n", string(mustRead(t, outside)))
}

func TestInPlaceRefusesAStrangersFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a file away")
	}
	path := t.TempDir()
	put(t, path, Set{"key": []byte("theirs")})
	require.NoError(t, os.Chown(filepath.Join(path, "key"), 65534, 65534))
	require.NoError(t, os.Chmod(path, 0o777))
	_, err := directory(t, path, update(UpdateInPlace)).Write(t.Context(), setOf("1", "key"))
	require.ErrorContains(t, err, "belongs to another user")
	require.Equal(t, "theirs", string(mustRead(t, filepath.Join(path, "key"))))
}

func TestAVersionOfAnotherUserIsReplaced(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a directory away")
	}
	d := directory(t, t.TempDir())
	set := setOf("1", "key")
	write(t, d, set)
	current := stat(t, filepath.Join(d.opts.Path, dataName))
	require.NoError(t, os.Chown(filepath.Join(d.opts.Path, dataName), 65534, 65534))
	require.True(t, write(t, d, set).Changed)
	require.False(t, os.SameFile(current, stat(t, filepath.Join(d.opts.Path, dataName))))
	info, err := os.Stat(filepath.Join(d.opts.Path, dataName))
	require.NoError(t, err)
	require.Equal(t, uint32(0), info.Sys().(*syscall.Stat_t).Uid)
}
