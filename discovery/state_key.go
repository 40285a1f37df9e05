package discovery

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

// keyBytes is how long a service's key is.
const keyBytes = 32

// Key returns the service's own key, which proves what it has made outside the
// cluster. It's made on the first call and durable before it's returned.
//
// A file that is damaged is an error of kind Configuration, and is never
// replaced: a new key would disown everything that was made with the old one.
func (s *StateDirectory) Key() ([]byte, error) {
	name := s.name + ".key"
	content, err := s.dir.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, keyBytes)
		_, _ = rand.Read(key) // never fails: crypto/rand ends the process instead
		return key, trace.Wrap(s.dir.WriteFile(name, []byte(hex.EncodeToString(key)+"\n")))
	}
	if err != nil {
		return nil, trace.Wrap(err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(content)))
	if err != nil || len(key) != keyBytes {
		return nil, failure.New(failure.Configuration, "the key in %s is damaged: put it back from a backup; or stop the service, remove the containers that have the label rollcall/agent, and remove the file",
			filepath.Join(s.dir.Path(), name))
	}
	return key, nil
}
