package discovery

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/gravitational/trace"

	"rollcall/destination"
	"rollcall/discovery/plan"
	"rollcall/failure"
)

// stateFolder stands in the bot's storage.
const stateFolder = "discovery"

// approveMark stands between a service's name and a plan's hash in the name of
// the empty file that approves it. The name says everything, so that the agent
// needn't be able to read a file that an administrator wrote.
const approveMark = ".approve-"

// StateDirectory is a StateStore in the bot's storage. It isn't safe for
// concurrent use by one process; approvals may come from others.
type StateDirectory struct {
	dir  *destination.Dir
	name string
}

// OpenStateDirectory opens, and makes if it's missing, the place in the storage
// at path where the state of a service is kept.
func OpenStateDirectory(path string, links destination.SymlinkMode, service string) (*StateDirectory, error) {
	dir, err := destination.MakeDir(filepath.Join(path, stateFolder), links)
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, err, "the discovery service %q can't keep its state: %s", service, err)
	}
	return &StateDirectory{dir: dir, name: url.PathEscape(service)}, nil
}

// Close closes the directory.
func (s *StateDirectory) Close() error { return trace.Wrap(s.dir.Close()) }

// Load returns what was saved last.
func (s *StateDirectory) Load() ([]byte, error) {
	data, err := s.dir.ReadFile(s.name + ".json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, trace.Wrap(err)
}

// Save replaces it.
func (s *StateDirectory) Save(data []byte) error {
	return trace.Wrap(s.dir.WriteFile(s.name+".json", data))
}

// TakeApprovals returns the hashes that Approve left, and removes them.
func (s *StateDirectory) TakeApprovals() ([]string, error) {
	names, err := s.dir.Names()
	if err != nil {
		return nil, trace.Wrap(err)
	}
	var hashes []string
	for _, name := range names {
		hash, ok := strings.CutPrefix(name, s.name+approveMark)
		if !ok || !isHash(hash) {
			continue
		}
		// An approval that can't be removed would hold for ever.
		if err := s.dir.Remove(name); err != nil {
			return hashes, trace.Wrap(err)
		}
		hashes = append(hashes, hash)
	}
	return hashes, nil
}

// Approve approves the deletions of the plan with that hash. The agent that
// keeps its state in the storage sees it within seconds.
func (s *StateDirectory) Approve(hash string) error {
	if !isHash(hash) {
		return failure.New(failure.Configuration, "%q isn't the hash of a plan; `rollcall discovery plan` and the service's status show it", hash)
	}
	return trace.Wrap(s.dir.WriteFile(s.name+approveMark+hash, nil))
}

func isHash(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == plan.HashSize
}
