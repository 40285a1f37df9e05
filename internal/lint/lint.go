// Package lint knows the rules of the house (docs/architecture.md): which room
// stands on which floor, who may speak to Teleport, and what no room may do.
// It reads source text only: it needs no network, no build and no module
// cache, and it doesn't know what the code is for.
package lint

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Severity says if a finding breaks the build.
type Severity uint8

const (
	// Warning is shown and breaks nothing.
	Warning Severity = iota
	// Error breaks the build.
	Error
)

// Finding is one place where a rule is broken.
type Finding struct {
	Severity Severity
	// Rule is the rule's short name: "floor", "no-init".
	Rule string
	// File is relative to the tree's root; Line is 0 for the whole file.
	File string
	Line int
	// Text says what is wrong and what to do.
	Text string
}

// String returns the finding as compilers print theirs.
func (f Finding) String() string {
	severity := "error"
	if f.Severity == Warning {
		severity = "warning"
	}
	return fmt.Sprintf("%s:%d: %s: %s (%s)", f.File, max(f.Line, 1), severity, f.Text, f.Rule)
}

// Errors returns the findings that break the build.
func Errors(all []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(all), func(f Finding) bool { return f.Severity != Error })
}

// Check reads all Go files of the module below root, but not those of nested
// modules, and returns what breaks a rule, sorted by file and line. The error
// is about reading the tree; a file that can't be parsed is a finding.
func Check(root fs.FS) ([]Finding, error) {
	house := &house{files: token.NewFileSet(), packages: map[string]*pkg{}}
	if err := house.walk(root); err != nil {
		return nil, err
	}
	house.checkPackages()
	slices.SortFunc(house.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Rule, b.Rule))
	})
	return house.findings, nil
}

// house collects the findings of one Check.
type house struct {
	files    *token.FileSet
	packages map[string]*pkg
	findings []Finding
}

// pkg is what the checks of whole packages need.
type pkg struct {
	firstFile  string
	documented bool
}

// walk checks every Go file that belongs to the module.
func (h *house) walk(root fs.FS) error {
	return fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if skip(root, name) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		h.checkFile(name, text)
		return nil
	})
}

// skip says if a directory isn't part of the module's source.
func skip(root fs.FS, dir string) bool {
	if dir == "." {
		return false
	}
	base := path.Base(dir)
	if base == "testdata" || base == "vendor" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return true
	}
	_, err := fs.Stat(root, path.Join(dir, "go.mod"))
	return err == nil
}

// checkFile applies the rules that need one file only. Tests may reach
// further than the code that they test, so only formal rules hold for them.
func (h *house) checkFile(name string, text []byte) {
	file, err := parser.ParseFile(h.files, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		h.report(Finding{Severity: Error, Rule: "parse", File: name, Text: err.Error()})
		return
	}
	h.checkInit(name, file)
	if strings.HasSuffix(name, "_test.go") {
		return
	}
	h.remember(name, file)
	h.checkImports(name, file)
	h.checkExits(name, file)
	if !ast.IsGenerated(file) {
		h.checkLength(name, text)
	}
}

// remember notes what checkPackages needs.
func (h *house) remember(name string, file *ast.File) {
	dir := path.Dir(name)
	p := h.packages[dir]
	if p == nil {
		p = &pkg{firstFile: name}
		h.packages[dir] = p
	}
	p.documented = p.documented || strings.TrimSpace(file.Doc.Text()) != ""
}

// checkPackages applies the rules that need a whole package.
func (h *house) checkPackages() {
	for dir, p := range h.packages {
		if !p.documented {
			h.report(Finding{
				Severity: Error, Rule: "package-comment", File: p.firstFile,
				Text: fmt.Sprintf("package %s has no comment; say what it knows and what it must not know", dir),
			})
		}
		if _, known := floorOf(dir); !known {
			h.report(Finding{
				Severity: Error, Rule: "room", File: p.firstFile,
				Text: fmt.Sprintf("%s stands on no floor; add it to the table in internal/lint/floors.go and to docs/architecture.md", dir),
			})
		}
	}
}

// report adds a finding.
func (h *house) report(f Finding) {
	h.findings = append(h.findings, f)
}

// at adds an error at a place in a file.
func (h *house) at(pos token.Pos, rule, format string, args ...any) {
	place := h.files.Position(pos)
	h.report(Finding{
		Severity: Error, Rule: rule, File: place.Filename, Line: place.Line,
		Text: fmt.Sprintf(format, args...),
	})
}
