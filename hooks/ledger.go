package hooks

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"rollcall/diagnostics"
)

// ledgerName is the ledger's file in the agent's storage.
const ledgerName = "hooks.json"

// Files are the storage's; a write is whole and durable, or didn't happen.
type Files interface {
	// ReadFile returns fs.ErrNotExist if there's no such file.
	ReadFile(name string) ([]byte, error)
	WriteFile(name string, data []byte) error
}

// Ledger remembers, over restarts, which set the hooks of each output were told
// of last, and which of them haven't worked for it. It's safe for concurrent use.
// What can't be remembered is logged, and costs a run too many or too few at the
// next start.
type Ledger struct {
	files Files
	log   *slog.Logger

	// mu protects the following, and is held while the file is written.
	mu   sync.Mutex
	told map[string]entry // by output
}

// entry is what is known of one output.
type entry struct {
	// Serial is the certificate's serial number in the set; empty: there was no
	// set yet.
	Serial string `json:"serial"`
	// Pending are the keys of the hooks that haven't worked for it.
	Pending []string `json:"pending,omitempty"`
}

// ledgerFile is the file's form.
type ledgerFile struct {
	Version int              `json:"version"`
	Told    map[string]entry `json:"told"`
}

// OpenLedger reads the ledger. Of outputs that aren't named, which have no hooks
// now, it forgets all: hooks that are added later haven't missed anything.
func OpenLedger(files Files, outputs []string, log *slog.Logger) *Ledger {
	l := &Ledger{files: files, log: log, told: map[string]entry{}}
	data, err := files.ReadFile(ledgerName)
	if errors.Is(err, fs.ErrNotExist) {
		return l
	}
	var stored ledgerFile
	if err == nil {
		err = json.Unmarshal(data, &stored)
	}
	if err != nil {
		log.Warn("What hooks were told of can't be read; hooks that were cut off aren't made up for this time.", "file", ledgerName, diagnostics.KeyErr, err)
		return l
	}
	maps.Copy(l.told, stored.Told)
	maps.DeleteFunc(l.told, func(output string, _ entry) bool { return !slices.Contains(outputs, output) })
	return l
}

// last returns what is known of an output.
func (l *Ledger) last(output string) (e entry, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, known = l.told[output]
	return e, known
}

// note takes down what is known of an output now.
func (l *Ledger) note(output string, e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.told[output]; ok && known.Serial == e.Serial && slices.Equal(known.Pending, e.Pending) {
		return
	}
	l.told[output] = e
	data, err := json.Marshal(ledgerFile{Version: 1, Told: l.told})
	if err == nil {
		err = l.files.WriteFile(ledgerName, append(data, '\n'))
	}
	if err != nil {
		l.log.Warn("What hooks were told of can't be noted; they may run once more at the next start.", diagnostics.KeyErr, err)
	}
}
