package lint

import (
	"go/ast"
	"path"
	"strconv"
	"strings"
)

// module is the import path of the tree that Check reads.
const module = "rollcall"

// The floors, from the bottom. A room imports only rooms of lower floors.
const (
	// foundation is for what every room may import, the ground floor included.
	foundation = iota
	support
	ground
	first
	second
	third
	fourth
	top
)

// floors is the table of docs/architecture.md. A room is a first path element;
// its subpackages are the same room.
func floors() map[string]int {
	return map[string]int{
		"failure":     foundation,
		"internal":    support,
		"acl":         support,
		"destination": ground,
		"systemd":     ground,
		"diagnostics": ground,
		"cluster":     first,
		"identity":    second,
		"service":     second,
		"hooks":       second,
		"outputs":     third,
		"tunnel":      third,
		"discovery":   third,
		"config":      fourth,
		"cmd":         top,
	}
}

// teleportClient is the library that only the room cluster may import;
// api/types and the like are free.
const teleportClient = "github.com/gravitational/teleport/api/client"

// reserved are imports that only some rooms may have, and why.
func reserved() []reservation {
	return []reservation{
		{
			path: teleportClient, rooms: []string{"cluster"},
			why: "only cluster speaks to Teleport; ask it, or add to it what is missing",
		},
		{
			path: "os/exec", rooms: []string{"hooks", "cmd"},
			why: "only hooks starts programs",
		},
		{
			path: "gopkg.in/yaml.v3", rooms: []string{"config", "cmd", "internal", "outputs"},
			why: "only config reads YAML (outputs may render it)",
		},
	}
}

// reservation is an import that only some rooms may have.
type reservation struct {
	path  string
	rooms []string
	why   string
}

// roomOf returns the first element of a path inside the module.
func roomOf(dir string) string {
	room, _, _ := strings.Cut(dir, "/")
	return room
}

// floorOf returns the floor of the package in dir, and if there is one.
func floorOf(dir string) (int, bool) {
	floor, known := floors()[roomOf(dir)]
	return floor, known
}

// checkImports applies the import rules to one file.
func (h *house) checkImports(name string, file *ast.File) {
	dir := path.Dir(name)
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has seen to that
		}
		h.checkReserved(dir, spec, imported)
		if inside, ok := strings.CutPrefix(imported, module+"/"); ok {
			h.checkFloor(dir, spec, inside)
		}
	}
}

// checkReserved reports an import that this room may not have.
func (h *house) checkReserved(dir string, spec *ast.ImportSpec, imported string) {
	for _, r := range reserved() {
		if !within(imported, r.path) {
			continue
		}
		allowed := false
		for _, room := range r.rooms {
			allowed = allowed || room == roomOf(dir)
		}
		if !allowed {
			h.at(spec.Pos(), "reserved-import", "%s may not import %s: %s", dir, imported, r.why)
		}
	}
}

// checkFloor reports an import that doesn't run downwards.
func (h *house) checkFloor(dir string, spec *ast.ImportSpec, imported string) {
	from, known := floorOf(dir)
	if !known || roomOf(dir) == roomOf(imported) {
		return // an unknown room is reported once, by its package
	}
	to, known := floorOf(imported)
	if !known {
		h.at(spec.Pos(), "room", "%s imports %s, which stands on no floor", dir, imported)
		return
	}
	switch {
	case to == from:
		h.at(spec.Pos(), "floor", "%s may not import %s: they stand on the same floor", dir, imported)
	case to > from:
		h.at(spec.Pos(), "floor", "%s may not import %s: imports run downwards only", dir, imported)
	}
}

// within says if an import path is prefix or below it.
func within(imported, prefix string) bool {
	return imported == prefix || strings.HasPrefix(imported, prefix+"/")
}
