package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

const (
	// shownLines and shownWidth bound what a failed test shows of one log: who
	// reads the output of many tests gets only some lines of each. The whole log
	// is kept in a file.
	shownLines = 40
	shownWidth = 400
	// reasonLines bound what a failed wait or command says of its reason.
	reasonLines = 12
)

// tail returns the last n lines, each cut at shownWidth.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	left := max(len(lines)-n, 0)
	lines = lines[left:]
	for i, line := range lines {
		lines[i] = cut(line)
	}
	if left > 0 {
		lines = append([]string{fmt.Sprintf("… (%d lines)", left)}, lines...)
	}
	return strings.Join(lines, "\n")
}

// cut shortens one line, and says by how much.
func cut(line string) string {
	if len(line) <= shownWidth {
		return line
	}
	end := shownWidth
	for end > 0 && !utf8.RuneStart(line[end]) {
		end--
	}
	return fmt.Sprintf("%s… (%d more)", line[:end], len(line)-end)
}

// reason is tail for the text of an error, which may be a whole journal.
func reason(err error) string { return tail(err.Error(), reasonLines) }

// showLog logs the end of what a process, or a machine, has written, and where
// all of it is. It's for a test that has failed.
func (s *Suite) showLog(t T, title, text string) {
	t.Helper()
	if strings.TrimSpace(text) == "" {
		return
	}
	kept := ""
	if path, err := s.keep(t.Name()+"-"+title, text); err == nil {
		kept = ", all of it in " + path
	}
	t.Logf("%s ends with%s\n%s", title, kept, tail(text, shownLines))
}

// keep writes a text beside the binaries.
func (s *Suite) keep(name, text string) (string, error) {
	dir := filepath.Join(filepath.Dir(s.Bin.Cluster), "logs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	name = strings.Map(func(r rune) rune {
		if r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, name)
	path := filepath.Join(dir, fmt.Sprintf("%s-%d.log", name, s.kept.Add(1)))
	return path, os.WriteFile(path, []byte(text), 0o600)
}
