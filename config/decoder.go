package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"rollcall/discovery/settings"
)

// maxNodes bounds what aliases may blow a file up to.
const maxNodes = 50_000

// decoder fills structs from YAML nodes by their yaml tags. It goes on after an
// error, so that all of them are found in one go. It's used by one goroutine,
// for one file.
type decoder struct {
	file string
	errs Errors
	// places is where each value stands, by YAML path (outputs[0].app_name).
	places map[string]Position
	// broken holds the paths of the mappings in which something is wrong, so
	// that what only follows from it isn't reported as well.
	broken map[string]bool
	// open are the nodes being decoded, to notice an alias that holds itself.
	open  map[*yaml.Node]bool
	nodes int
	// most bounds nodes.
	most int
	// known are the keys of the structs that were decoded before.
	known map[reflect.Type]map[string]field
}

func newDecoder(file string) *decoder {
	return &decoder{
		file:   file,
		places: map[string]Position{},
		broken: map[string]bool{},
		open:   map[*yaml.Node]bool{},
		most:   maxNodes,
		known:  map[reflect.Type]map[string]field{},
	}
}

// fail reports an error at a node, with a suggestion that may be empty.
func (d *decoder) fail(n *yaml.Node, path, message, suggestion string) {
	d.errs = append(d.errs, &Error{
		File: d.file, Line: max(n.Line, 1), Column: max(n.Column, 1),
		Message: message, Suggestion: suggestion,
	})
	d.broken[path] = true
	d.broken[parentPath(path)] = true
}

func (d *decoder) place(n *yaml.Node, path string) {
	d.places[path] = Position{d.file, max(n.Line, 1), max(n.Column, 1)}
}

// special returns the decoder of a type that isn't decoded by its kind, or nil.
func (d *decoder) special(t reflect.Type) func(*yaml.Node, string, reflect.Value) {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return d.duration
	case reflect.TypeFor[Output]():
		return d.output
	case reflect.TypeFor[Destination]():
		return d.destination
	case reflect.TypeFor[storage]():
		return d.storage
	case reflect.TypeFor[settings.Source]():
		return d.source
	default:
		return nil
	}
}

// value decodes a node into v, which must be settable. path is the value's
// place for messages and for the positions of later errors.
func (d *decoder) value(n *yaml.Node, path string, v reflect.Value) {
	d.nodes++
	if d.nodes > d.most {
		if d.nodes == d.most+1 {
			d.fail(n, path, "the file's aliases make it too large", "write the values out")
		}
		return
	}
	d.place(n, path)
	if n.Kind == yaml.AliasNode {
		if target := d.follow(n, path); target != nil {
			d.value(target, path, v)
		}
		return
	}
	d.open[n] = true
	defer delete(d.open, n)
	if isNull(n) {
		d.fail(n, path, fmt.Sprintf("%s is empty", path), "give it a value or remove the line")
		return
	}
	if decode := d.special(v.Type()); decode != nil {
		decode(n, path, v)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, path, v)
	case reflect.Slice:
		d.list(n, path, v)
	case reflect.Map:
		d.table(n, path, v)
	default:
		d.scalar(n, path, v)
	}
}

// follow returns what an alias stands for; nil if it holds itself.
func (d *decoder) follow(n *yaml.Node, path string) *yaml.Node {
	if n.Alias == nil || d.open[n.Alias] {
		d.fail(n, path, "an alias refers to something that contains the alias itself", "write the value out")
		return nil
	}
	return n.Alias
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// list decodes a sequence into a slice of any type.
func (d *decoder) list(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.wrongType(n, path, "a list, one item a line after a hyphen")
		return
	}
	out := reflect.MakeSlice(v.Type(), 0, len(n.Content))
	for i, item := range n.Content {
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(item, fmt.Sprintf("%s[%d]", path, i), element)
		out = reflect.Append(out, element)
	}
	v.Set(out)
}

// table decodes a mapping with free keys, such as labels.
func (d *decoder) table(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.wrongType(n, path, "a mapping of names to texts")
		return
	}
	out := reflect.MakeMap(v.Type())
	for _, p := range d.pairs(n, path) {
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(p.value, joinPath(path, p.key), element)
		out.SetMapIndex(reflect.ValueOf(p.key), element)
	}
	v.Set(out)
}

// structure decodes a mapping into a struct. extra are keys that the mapping
// has beside the struct's own; they are left to the caller.
func (d *decoder) structure(n *yaml.Node, path string, v reflect.Value, extra ...string) {
	if n.Kind != yaml.MappingNode {
		d.wrongType(n, path, "a mapping with "+orList(slices.Concat(extra, keysOf(v.Type()))))
		return
	}
	fields := d.fieldsOf(v.Type())
	for _, p := range d.pairs(n, path) {
		if slices.Contains(extra, p.key) {
			continue
		}
		if f, ok := fields[p.key]; ok {
			d.value(p.value, joinPath(path, p.key), v.FieldByIndex(f.Index))
			continue
		}
		d.unknownKey(p, path, slices.Concat(extra, keysOf(v.Type())))
	}
}

// fieldsOf is the function of that name, once for each type.
func (d *decoder) fieldsOf(t reflect.Type) map[string]field {
	fields, ok := d.known[t]
	if !ok {
		fields = fieldsOf(t)
		d.known[t] = fields
	}
	return fields
}

func (d *decoder) unknownKey(p pair, path string, known []string) {
	where := ""
	if path != "" {
		where = " in " + path
	}
	if reason, ok := laterKeys()[p.key]; ok {
		d.fail(p.keyNode, joinPath(path, p.key), fmt.Sprintf("%q%s isn't built yet", p.key, where), reason)
		return
	}
	suggestion := didYouMean(p.key, known)
	if suggestion == "" {
		suggestion = "valid here: " + strings.Join(sorted(known), ", ")
	}
	d.fail(p.keyNode, joinPath(path, p.key), fmt.Sprintf("unknown key %q%s", short(p.key), where), suggestion)
}

// pair is one entry of a mapping.
type pair struct {
	key            string
	keyNode, value *yaml.Node
}

// pairs returns a mapping's entries in order, with merged ones (<<) behind, and
// reports keys that are given twice or aren't words.
func (d *decoder) pairs(n *yaml.Node, path string) []pair {
	var own, merged []pair
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		keyNode, value := n.Content[i], n.Content[i+1]
		if keyNode.Kind == yaml.ScalarNode && keyNode.ShortTag() == "!!merge" {
			merged = append(merged, d.merge(value, path)...)
			continue
		}
		if keyNode.Kind != yaml.ScalarNode {
			d.fail(keyNode, path, "a key must be a word", "")
			continue
		}
		if line, twice := seen[keyNode.Value]; twice {
			d.fail(keyNode, joinPath(path, keyNode.Value),
				fmt.Sprintf("%s is given twice", joinPath(path, short(keyNode.Value))),
				fmt.Sprintf("it's already on line %d: keep one", line))
			continue
		}
		seen[keyNode.Value] = keyNode.Line
		own = append(own, pair{keyNode.Value, keyNode, value})
	}
	for _, p := range merged {
		if _, taken := seen[p.key]; !taken {
			seen[p.key] = p.keyNode.Line
			own = append(own, p)
		}
	}
	return own
}

// merge returns the entries that a merge key brings in.
func (d *decoder) merge(n *yaml.Node, path string) []pair {
	d.nodes++
	if d.nodes > d.most {
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		return d.pairs(n, path)
	case yaml.AliasNode:
		target := d.follow(n, path)
		if target == nil {
			return nil
		}
		d.open[target] = true
		defer delete(d.open, target)
		return d.merge(target, path)
	case yaml.SequenceNode:
		var all []pair
		for _, item := range n.Content {
			all = append(all, d.merge(item, path)...)
		}
		return all
	default:
		d.fail(n, path, "<< must name a mapping", "")
		return nil
	}
}

// find returns the value of one key of a mapping, aliases followed, or nil.
// It reports nothing.
func find(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key && n.Content[i].Kind == yaml.ScalarNode {
			return n.Content[i+1]
		}
	}
	return nil
}
