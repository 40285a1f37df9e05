package main

import (
	"bytes"
	"encoding/json"
	stdlog "log"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/diagnostics"
)

// TestWhatLibrariesPrintIsInTheLog has net/http print what it has no other place
// for. Not parallel: the standard log is the process's.
func TestWhatLibrariesPrintIsInTheLog(t *testing.T) {
	const text = `Unsolicited response received on idle HTTP channel starting with "SECRET"; err=<nil>`
	before, flags := stdlog.Writer(), stdlog.Flags()
	t.Cleanup(func() { stdlog.SetOutput(before); stdlog.SetFlags(flags) })
	printed := func(format string, debug bool) string {
		var out bytes.Buffer
		newLogger(environment{Stderr: &out, Getenv: func(string) string { return "" }}, format, debug)
		stdlog.Print(text)
		return out.String()
	}

	var record map[string]string
	require.NoError(t, json.Unmarshal([]byte(printed(diagnostics.FormatJSON, true)), &record), "it's one record")
	require.Equal(t, "DEBUG", record["level"])
	require.Equal(t, text, record["msg"])
	require.Regexp(t, `^time=\S+ level=DEBUG msg="Unsolicited .*\\"SECRET\\".*"\n$`, printed(diagnostics.FormatText, true))
	require.Empty(t, printed(diagnostics.FormatText, false), "it's for debugging alone")
}
