package identity

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/gravitational/trace"

	"rollcall/failure"
)

// fileHost holds the id that tells this host's resources from another's.
const fileHost = "host-id"

// hostIDBytes is how much of it is random: short enough for a label that people
// read, and as good as unique among a cluster's hosts.
const hostIDBytes = 8

// HostID returns the id of this host's agent. It's made on the first call and
// durable before it's returned: what is registered under an id that was lost
// would be nobody's. A host's name isn't used, because two hosts can have the
// same, and one can get another.
//
// A file that is damaged is an error of kind Configuration, and is never
// replaced: a new id would disown everything that is registered.
//
// It's safe for concurrent use: every caller gets the one id.
func (d *Directory) HostID() (string, error) {
	d.hostID.Lock()
	defer d.hostID.Unlock()
	path := filepath.Join(d.path, fileHost)
	content, err := d.readFile(fileHost)
	if errors.Is(err, fs.ErrNotExist) {
		id := newHostID()
		if err := d.replace(fileHost, []byte(id+"\n")); err != nil {
			return "", failure.Wrap(failure.Configuration, unusable(err),
				"the host's id can't be kept in %s (%s): check the storage's owner, mode and space", path, cause(err))
		}
		return id, nil
	}
	if err != nil {
		return "", failure.Wrap(failure.Configuration, unusable(err),
			"the host's id can't be read from %s (%s): check its owner and mode", path, cause(err))
	}
	id := strings.TrimSpace(string(content))
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != hostIDBytes {
		return "", failure.Wrap(failure.Configuration, unusable(trace.BadParameter("damaged")),
			"the host's id in %s is damaged: write the id back that the label rollcall/owner of this host's resources has in its middle; only if there are none, remove the file", path)
	}
	return id, nil
}

func newHostID() string {
	raw := make([]byte, hostIDBytes)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(raw)
}
