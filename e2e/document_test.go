package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// block is a block of code in a document.
type block struct {
	// language is what stands behind the fence: sh, yaml.
	language string
	text     string
}

// blocksOf returns the blocks of code below a heading, in order, up to the next
// heading of that level. The tests do what the documents say, and not what
// somebody once copied from them.
func blocksOf(t *testing.T, document, heading string) []block {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "docs", document))
	require.NoError(t, err)
	_, section, found := strings.Cut("\n"+string(content), "\n## "+heading+"\n")
	require.True(t, found, "%s has no heading %q", document, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	var blocks []block
	var open *block
	for line := range strings.Lines(section) {
		switch language, fence := strings.CutPrefix(strings.TrimSpace(line), "```"); {
		case fence && open != nil:
			blocks = append(blocks, *open)
			open = nil
		case fence:
			open = &block{language: language}
		case open != nil:
			open.text += line
		}
	}
	return blocks
}

// languages are those of blocks, in order.
func languages(blocks []block) []string {
	var all []string
	for _, b := range blocks {
		all = append(all, b.language)
	}
	return all
}

// commands are the lines of a block of commands.
func (b block) commands() []string {
	return strings.Split(strings.TrimSpace(b.text), "\n")
}
