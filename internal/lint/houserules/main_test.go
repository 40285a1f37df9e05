package main

import (
	"bytes"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	long := "// Package service is here for the test.\npackage service\n" + string(bytes.Repeat([]byte("\n"), 500))
	tests := []struct {
		name           string
		root           fs.FS
		args           []string
		want           int
		stdout, stderr string
	}{
		{name: "clean", root: fstest.MapFS{}},
		{
			name:   "a warning breaks nothing",
			root:   fstest.MapFS{"service/a.go": {Data: []byte(long)}},
			stdout: "service/a.go:502: warning: 502 lines",
		},
		{
			name:   "an error does",
			root:   fstest.MapFS{"service/a.go": {Data: []byte("package service\n")}},
			want:   1,
			stdout: "service/a.go:1: error: package service has no comment",
			stderr: "1 to mend",
		},
		{
			name:   "the documents",
			root:   fstest.MapFS{"service/a.go": {Data: []byte("package service\n")}, "a.md": {Data: []byte("FIXME\n")}},
			args:   []string{"documents"},
			want:   1,
			stdout: "a.md:1: error: FIXME in a document",
			stderr: "1 to mend",
		},
		{
			name:   "an unknown argument",
			root:   fstest.MapFS{},
			args:   []string{"sentences"},
			want:   2,
			stderr: "usage: houserules",
		},
		{
			name:   "no tree",
			root:   nowhere{},
			want:   2,
			stderr: "no such tree",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Equal(t, tt.want, run(tt.root, tt.args, &stdout, &stderr))
			requireHolds(t, stdout.String(), tt.stdout)
			requireHolds(t, stderr.String(), tt.stderr)
		})
	}
}

// requireHolds checks for a part, or for nothing at all.
func requireHolds(t *testing.T, text, part string) {
	t.Helper()
	if part == "" {
		require.Empty(t, text)
		return
	}
	require.Contains(t, text, part)
}

// nowhere is a tree that can't be read.
type nowhere struct{}

func (nowhere) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: errNowhere{}}
}

type errNowhere struct{}

func (errNowhere) Error() string { return "no such tree" }
