package hooks

import (
	"bytes"
	"strings"

	"rollcall/internal/oneline"
)

const (
	// maxCaptured is how many bytes of a program's output are kept.
	maxCaptured = 8 << 10
	// maxLines and maxLine bound what is logged of it.
	maxLines = 20
	maxLine  = 256
)

// captured keeps the beginning of what a program prints, and takes the rest
// without a word: a program must not fail because its reader has had enough.
// One goroutine of os/exec writes to it; read it when the program has ended.
type captured struct {
	buffer  bytes.Buffer
	dropped bool
}

// Write never fails.
func (c *captured) Write(data []byte) (int, error) {
	room := maxCaptured - c.buffer.Len()
	if len(data) > room {
		c.dropped = true
	}
	c.buffer.Write(data[:min(len(data), room)])
	return len(data), nil
}

// lines returns the output for the log. Private keys are left out: a program
// that prints what it finds must not carry one into the journal.
func (c *captured) lines() []string {
	var out []string
	secret, cut := false, c.dropped
	for line := range strings.Lines(c.buffer.String()) {
		if strings.Contains(line, "PRIVATE KEY-----") {
			if !secret {
				out = append(out, "(a private key, left out)")
			}
			// A file without a newline at its end puts the end of a certificate
			// on the line where the key begins.
			end := strings.LastIndex(line, "-----END")
			secret = end < 0 || strings.LastIndex(line, "-----BEGIN") > end
			continue
		}
		line = oneline.Clean(line)
		if secret || line == "" {
			continue
		}
		if len(out) == maxLines {
			cut = true
			break
		}
		out = append(out, shorten(line))
	}
	if cut {
		out = append(out, "(more was printed)")
	}
	return out
}

func shorten(line string) string {
	runes := []rune(line)
	if len(runes) <= maxLine {
		return line
	}
	return string(runes[:maxLine]) + "…"
}
