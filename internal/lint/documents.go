package lint

import (
	"cmp"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// CheckDocuments reads all Markdown files below root, but not those of hidden
// directories and testdata, and returns links that lead nowhere, examples that
// don't parse and text that isn't meant for readers.
func CheckDocuments(root fs.FS) ([]Finding, error) {
	desk := &desk{root: root, pages: map[string]*page{}}
	if err := desk.read(); err != nil {
		return nil, err
	}
	for name, p := range desk.pages {
		desk.checkLinks(name, p)
		desk.checkExamples(name, p)
		desk.checkWords(name, p)
	}
	slices.SortFunc(desk.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Text, b.Text))
	})
	return desk.findings, nil
}

// desk collects the findings of one CheckDocuments.
type desk struct {
	root     fs.FS
	pages    map[string]*page
	findings []Finding
}

// page is one Markdown file, taken apart.
type page struct {
	// prose is the text by line, with the lines of examples left empty.
	prose    []string
	examples []example
	// anchors are what a link's # may name.
	anchors map[string]bool
}

// example is one fenced block.
type example struct {
	language string
	line     int
	text     string
}

// read takes all pages apart.
func (d *desk) read() error {
	return fs.WalkDir(d.root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if entry.IsDir() {
			if name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".md" {
			return nil
		}
		text, err := fs.ReadFile(d.root, name)
		if err != nil {
			return err
		}
		d.pages[name] = takeApart(string(text))
		return nil
	})
}

// takeApart splits a page into prose and examples.
func takeApart(text string) *page {
	p := &page{anchors: map[string]bool{}}
	var open *example
	for i, line := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open == nil:
			open = &example{language: fence, line: i + 2}
			p.prose = append(p.prose, "")
		case isFence:
			p.examples = append(p.examples, *open)
			open = nil
			p.prose = append(p.prose, "")
		case open != nil:
			open.text += line + "\n"
			p.prose = append(p.prose, "")
		default:
			p.prose = append(p.prose, line)
			if strings.HasPrefix(line, "#") {
				p.anchors[anchor(strings.TrimLeft(line, "# "))] = true
			}
		}
	}
	return p
}

// anchor returns the name that renderers give a heading.
func anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case r == ' ':
			b.WriteRune('-')
		case r == '-', r == '_', r >= 'a' && r <= 'z', r >= '0' && r <= '9', r > 127:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// checkLinks reports links inside the tree that lead nowhere. The world
// outside isn't asked.
func (d *desk) checkLinks(name string, p *page) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for i, line := range p.prose {
		for _, match := range link.FindAllStringSubmatch(line, -1) {
			target, fragment, _ := strings.Cut(match[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			to := name
			if target != "" {
				to = path.Join(path.Dir(name), target)
			}
			if _, err := fs.Stat(d.root, to); err != nil {
				d.report(name, i+1, "link", "the link %s leads nowhere", match[1])
				continue
			}
			if there := d.pages[to]; there != nil && fragment != "" && !there.anchors[fragment] {
				d.report(name, i+1, "link", "the link %s names a heading that isn't there", match[1])
			}
		}
	}
}

// checkExamples reports examples that their own language can't read.
func (d *desk) checkExamples(name string, p *page) {
	for _, e := range p.examples {
		if err := parses(e); err != nil {
			d.report(name, e.line, "example", "the %s example doesn't parse: %v", e.language, err)
		}
	}
}

// parses reads an example in its language; unknown languages are taken as they
// are.
func parses(e example) error {
	switch e.language {
	case "go":
		_, err := parser.ParseFile(token.NewFileSet(), "example.go", e.text, parser.SkipObjectResolution)
		return err
	case "json":
		var v any
		return json.Unmarshal([]byte(e.text), &v)
	case "yaml":
		var v yaml.Node
		return yaml.Unmarshal([]byte(e.text), &v)
	default:
		return nil
	}
}

// checkWords reports notes to ourselves that readers shouldn't meet.
func (d *desk) checkWords(name string, p *page) {
	note := regexp.MustCompile(`\b(TODO|FIXME|XXX|TBD)\b`)
	for i, line := range p.prose {
		if word := note.FindString(line); word != "" {
			d.report(name, i+1, "note", "%s in a document: write it or leave it out", word)
		}
	}
}

// report adds an error.
func (d *desk) report(file string, line int, rule, format string, args ...any) {
	d.findings = append(d.findings, Finding{
		Severity: Error, Rule: rule, File: file, Line: line, Text: fmt.Sprintf(format, args...),
	})
}
