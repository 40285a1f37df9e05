package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Lines of a file: more than the first is a warning, more than the second an
// error.
const (
	manyLines = 450
	maxLines  = 600
)

// exits are functions that end the process behind the callers' backs: nothing
// that is deferred runs, no service stops cleanly, no lock is released in
// order.
func exits() map[string][]string {
	return map[string][]string{
		"os":      {"Exit"},
		"log":     {"Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln"},
		"syscall": {"Exit"},
	}
}

// checkInit reports init functions: what runs at import can't be given a
// context, a logger or an error to return.
func (h *house) checkInit(name string, file *ast.File) {
	for _, decl := range file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if ok && fn.Recv == nil && fn.Name.Name == "init" {
			h.at(fn.Pos(), "no-init", "func init() in %s: do it in a constructor that main calls", path.Dir(name))
		}
	}
}

// checkExits reports calls that end the process, except in func main of a
// program.
func (h *house) checkExits(name string, file *ast.File) {
	imported := importNames(file)
	for _, decl := range file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if ok && isMain(file, fn) {
			continue
		}
		ast.Inspect(decl, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			if what := exit(call, imported); what != "" {
				h.at(call.Pos(), "no-exit", "%s in %s: return an error; only func main ends the process", what, path.Dir(name))
			}
			return true
		})
	}
}

// isMain says if fn is a program's entry.
func isMain(file *ast.File, fn *ast.FuncDecl) bool {
	return file.Name.Name == "main" && fn.Recv == nil && fn.Name.Name == "main"
}

// exit returns the name of the function that a call ends the process with, or
// nothing.
func exit(call *ast.CallExpr, imported map[string]string) string {
	switch fn := call.Fun.(type) {
	case *ast.Ident:
		if fn.Name == "panic" {
			return "panic"
		}
	case *ast.SelectorExpr:
		of, ok := fn.X.(*ast.Ident)
		if ok && slices.Contains(exits()[imported[of.Name]], fn.Sel.Name) {
			return imported[of.Name] + "." + fn.Sel.Name
		}
	}
	return ""
}

// importNames returns a file's imports by the name that the file calls them.
func importNames(file *ast.File) map[string]string {
	names := map[string]string{}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = imported
	}
	return names
}

// checkLength reports files that nobody can read in one go.
func (h *house) checkLength(name string, text []byte) {
	lines := bytes.Count(text, []byte("\n"))
	if len(text) > 0 && !strings.HasSuffix(string(text), "\n") {
		lines++
	}
	if lines <= manyLines {
		return
	}
	severity := Warning
	if lines > maxLines {
		severity = Error
	}
	h.report(Finding{
		Severity: severity, Rule: "length", File: name, Line: lines,
		Text: fmt.Sprintf("%d lines; a file has at most %d, and better fewer than %d", lines, maxLines, manyLines),
	})
}
