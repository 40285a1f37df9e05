package lint

import (
	"os"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestCheckDocuments(t *testing.T) {
	tests := []struct {
		name string
		text string
		want []string
	}{
		{name: "a page that is there", text: "see [b](b.md) and [it](sub/c.md#two-words)\n"},
		{name: "a page that isn't", text: "# A\n\nsee [b](missing.md)\n", want: []string{"docs/a.md:3: error: link"}},
		{name: "two links on a line", text: "[b](b.md) [c](c.md) [d](d.md)\n",
			want: []string{"docs/a.md:1: error: link", "docs/a.md:1: error: link"}},
		{name: "a picture", text: "![house](house.svg)\n"},
		{name: "a picture that isn't there", text: "![house](shed.svg)\n", want: []string{"docs/a.md:1: error: link"}},
		{name: "a heading here", text: "# What it's for, in `short`\n\n[x](#what-its-for-in-short)\n"},
		{name: "a heading that isn't here", text: "# Alpha\n\n[x](#beta)\n", want: []string{"docs/a.md:3: error: link"}},
		{name: "a heading that isn't there", text: "[x](sub/c.md#three)\n", want: []string{"docs/a.md:1: error: link"}},
		{name: "the world outside", text: "[x](https://example.com/missing.md) [y](mailto:a@example.com)\n"},
		{name: "a link in an example", text: "```sh\n# [x](missing.md)\n```\n"},
		{name: "a heading in an example isn't one", text: "```sh\n# one\n```\n[x](#one)\n", want: []string{"docs/a.md:4: error: link"}},

		{name: "good examples", text: "```go\npackage a\n```\n\n```json\n{\"a\": 1}\n```\n\n```yaml\na: [1]\n```\n"},
		{name: "broken Go", text: "```go\npackage a\nfunc {\n```\n", want: []string{"docs/a.md:2: error: example"}},
		{name: "broken JSON", text: "text\n```json\n{a}\n```\n", want: []string{"docs/a.md:3: error: example"}},
		{name: "broken YAML", text: "```yaml\na: [1\n```\n", want: []string{"docs/a.md:2: error: example"}},
		{name: "another language", text: "```nginx\n{{{\n```\n"},

		{name: "a note", text: "TODO: write this\n", want: []string{"docs/a.md:1: error: note"}},
		{name: "part of a word", text: "mastodons and TODOS\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			findings, err := CheckDocuments(fstest.MapFS{
				"docs/a.md":          {Data: []byte(tt.text)},
				"docs/b.md":          {Data: []byte("# B\n")},
				"docs/sub/c.md":      {Data: []byte("# One\n\n## Two words\n")},
				"docs/house.svg":     {Data: []byte("<svg/>")},
				"testdata/x.md":      {Data: []byte("TODO\n")},
				".cache/x.md":        {Data: []byte("TODO\n")},
				"docs/testdata/y.md": {Data: []byte("TODO\n")},
			})
			require.NoError(t, err)
			require.Equal(t, tt.want, brief(findings))
		})
	}
}

// TestTheDocuments holds the rules against the real documents.
func TestTheDocuments(t *testing.T) {
	findings, err := CheckDocuments(os.DirFS("../.."))
	require.NoError(t, err)
	for _, f := range findings {
		t.Error(f)
	}
}
