package diagnostics

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/gravitational/trace"
	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

func sampleError() error {
	below := trace.Wrap(errors.New("dial tcp: connection refused"))
	return trace.Wrap(failure.Wrap(failure.Unreachable, fmt.Errorf("ping: %w", below), "the proxy can't be reached;\ncheck proxy_server"))
}

func TestTextLog(t *testing.T) {
	var out bytes.Buffer
	log := NewLogger(&out, FormatText, false, "")
	log.Debug("hidden")
	log.With(KeyService, "app").Warn("A renewal failed.", KeyErr, sampleError(), "text", "two\nlines", "none", error(nil))
	line := out.String()
	require.Regexp(t, `^time=\S+ level=WARN msg="A renewal failed." service=app err="the proxy can't be reached; check proxy_server" text="two\\nlines" none=<nil>\n$`, line)
}

func TestJSONLog(t *testing.T) {
	var out bytes.Buffer
	NewLogger(&out, FormatJSON, false, "").Error("It failed.", KeyService, "app", KeyErr, sampleError())
	require.Equal(t, 1, strings.Count(out.String(), "\n"))
	var record map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &record))
	require.NotEmpty(t, record["time"])
	delete(record, "time")
	require.Equal(t, map[string]any{
		"level": "ERROR", "msg": "It failed.", "service": "app",
		"err": "the proxy can't be reached; check proxy_server",
	}, record)
}

func TestDebugLogHasTheCause(t *testing.T) {
	var out bytes.Buffer
	log := NewLogger(&out, FormatJSON, true, "")
	log.Debug("It failed.", KeyErr, sampleError())
	log.Debug("Plain.", KeyErr, errors.New("plain"))
	log.Debug("Joined.", KeyErr, errors.Join(errors.New("left"), trace.Wrap(errors.New("right"))))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 3)
	record := func(line string) (r map[string]string) {
		require.NoError(t, json.Unmarshal([]byte(line), &r))
		return r
	}
	cause := record(lines[0])[KeyCause]
	require.Contains(t, cause, "*failure.Error: the proxy can't be reached")
	require.Contains(t, cause, "caused by *fmt.wrapError: ping: dial tcp: connection refused")
	require.Contains(t, cause, "caused by *errors.errorString: dial tcp: connection refused")
	require.Contains(t, cause, "sampleError")
	require.NotContains(t, record(lines[1]), KeyCause, "there is nothing to add")
	require.Contains(t, record(lines[2])[KeyCause], "right")
}

func TestErrorsInGroupsAndBoundAttributes(t *testing.T) {
	var out bytes.Buffer
	log := NewLogger(&out, FormatText, false, "").With(KeyErr, sampleError()).WithGroup("hook")
	log.Info("x", slog.Group("inner", "err", sampleError()))
	require.Contains(t, out.String(), `err="the proxy can't be reached; check proxy_server" hook.inner.err="the proxy can't be reached; check proxy_server"`)
}

func TestJournalLines(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	require.NoError(t, err)
	defer file.Close()
	info, err := file.Stat()
	require.NoError(t, err)
	stat := info.Sys().(*syscall.Stat_t)
	stream := fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)

	log := NewLogger(file, FormatText, true, stream)
	log.Debug("d")
	log.Info("i")
	log.Warn("w", "text", "two\nlines")
	log.With(KeyService, "app").Error("e", "time", "kept")
	NewLogger(file, FormatText, false, "1:2").Info("not the journal")
	NewLogger(file, FormatText, false, "").Info("not the journal")

	content, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	require.Equal(t, []string{
		`<7>level=DEBUG msg=d`,
		`<6>level=INFO msg=i`,
		`<4>level=WARN msg=w text="two\nlines"`,
	}, lines[:3])
	require.True(t, strings.HasPrefix(lines[3], `<3>level=ERROR msg=e service=app`), lines[3])
	require.True(t, strings.HasPrefix(lines[4], "time="), lines[4])
	require.True(t, strings.HasPrefix(lines[5], "time="), lines[5])
	require.False(t, isJournal(&bytes.Buffer{}, stream))
}

func TestConcurrentJournalLinesKeepTheirLevel(t *testing.T) {
	out := &bytes.Buffer{}
	writer := &lineWriter{out: out, journal: true}
	log := slog.New(&handler{inner: slog.NewTextHandler(writer, nil), out: writer})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 100 {
				log.With("a", 1).Info("info")
				log.Error("error")
			}
		})
	}
	group.Wait()
	require.Equal(t, 400, strings.Count(out.String(), "<6>time="))
	for line := range strings.Lines(out.String()) {
		want := "<6>"
		if strings.Contains(line, "level=ERROR") {
			want = "<3>"
		}
		require.True(t, strings.HasPrefix(line, want), line)
	}
}
