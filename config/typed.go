package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"rollcall/destination"
	"rollcall/discovery/settings"
	"rollcall/discovery/source/docker"
	"rollcall/discovery/source/file"
	"rollcall/outputs"
)

// output decodes an item of outputs or services by its type.
func (d *decoder) output(n *yaml.Node, path string, v reflect.Value) {
	noun, others := "output", isService
	if strings.HasPrefix(path, "services") {
		noun, others = "service", func(k kind) bool { return !isService(k) }
	}
	out := Output{Path: path}
	// The two lists count as one, as they do for the official agent; what is
	// proposed is what belongs there.
	proposed := kindNames(slices.DeleteFunc(outputKinds(), others), true)
	pairs, k, ok := d.typed(n, path, noun, outputKinds(), proposed)
	if !ok {
		return
	}
	out.Type = k.name
	if k.options == nil {
		return
	}
	options := reflect.ValueOf(k.options())
	if k.service {
		d.structure(n, path, options.Elem(), "type")
		out.Options = options.Interface()
		v.Set(reflect.ValueOf(out))
		return
	}
	d.structure(n, path, options.Elem(), "type", "destination")
	for _, p := range pairs {
		if p.key == "destination" {
			d.value(p.value, joinPath(path, p.key), reflect.ValueOf(&out.Destination).Elem())
		}
	}
	out.Options = options.Interface()
	out.Common = commonOf(options.Elem())
	if !k.unbuilt {
		v.Set(reflect.ValueOf(out))
	}
}

// commonOf returns the part that every output's options have.
func commonOf(options reflect.Value) *outputs.CommonOptions {
	return options.FieldByName("CommonOptions").Addr().Interface().(*outputs.CommonOptions)
}

// destination decodes a place for files by its type.
func (d *decoder) destination(n *yaml.Node, path string, v reflect.Value) {
	_, k, ok := d.typed(n, path, "destination", destinationKinds(), kindNames(destinationKinds(), true))
	if !ok {
		return
	}
	out := Destination{Type: k.name}
	var options any = new(struct{})
	if k.options != nil {
		options = k.options()
	}
	d.structure(n, path, reflect.ValueOf(options).Elem(), "type")
	if directory, ok := options.(*destination.DirectoryOptions); ok {
		out.Directory = directory
	}
	if !k.unbuilt {
		v.Set(reflect.ValueOf(out))
	}
}

// storage decodes the destination that the bot keeps its own identity in.
func (d *decoder) storage(n *yaml.Node, path string, v reflect.Value) {
	d.destination(n, path, v.Field(0))
	if kind := v.Field(0).Interface().(Destination).Type; kind == destination.TypeNop {
		d.fail(n, joinPath(path, "type"), "storage can't be of type nop, which keeps nothing", "use directory or memory")
	}
}

// source decodes the source of a discovery service by its type.
func (d *decoder) source(n *yaml.Node, path string, v reflect.Value) {
	_, k, ok := d.typed(n, path, "source", sourceKinds(), kindNames(sourceKinds(), true))
	if !ok {
		return
	}
	out := settings.Source{Type: k.name}
	options := k.options()
	d.structure(n, path, reflect.ValueOf(options).Elem(), "type")
	switch options := options.(type) {
	case *docker.Options:
		out.Docker = options
	case *file.Options:
		out.File = options
	}
	v.Set(reflect.ValueOf(out))
}

// typed finds out which of the kinds a mapping is, and reports a missing, an
// unknown and an unbuilt type; proposed are those that belong there. It returns
// the mapping's entries with errors in them left unreported, since structure
// reports them.
func (d *decoder) typed(n *yaml.Node, path, noun string, kinds []kind, proposed []string) ([]pair, kind, bool) {
	if n.Kind != yaml.MappingNode {
		d.wrongType(n, path, fmt.Sprintf("a mapping with a type (%s)", orList(proposed)))
		return nil, kind{}, false
	}
	silent := newDecoder(d.file)
	silent.nodes, silent.most = d.nodes, d.most
	silent.open = d.open
	pairs := silent.pairs(n, path)
	d.nodes = silent.nodes
	var typeNode *yaml.Node
	for _, p := range pairs {
		if p.key == "type" {
			typeNode = p.value
		}
	}
	if typeNode == nil {
		d.noType(n, path, pairs, proposed)
		return nil, kind{}, false
	}
	var name string
	d.value(typeNode, joinPath(path, "type"), reflect.ValueOf(&name).Elem())
	if name == "" {
		return nil, kind{}, false
	}
	k, ok := kindNamed(kinds, name)
	if !ok {
		suggestion := didYouMean(name, kindNames(kinds, false))
		if suggestion == "" {
			suggestion = "use " + orList(proposed)
		}
		d.fail(typeNode, joinPath(path, "type"), fmt.Sprintf("unknown %s type %q", noun, short(name)), suggestion)
		return nil, kind{}, false
	}
	if k.unbuilt {
		d.fail(typeNode, joinPath(path, "type"), fmt.Sprintf("%s type %q isn't built yet", noun, name),
			"built so far: "+strings.Join(proposed, ", "))
	}
	return pairs, k, true
}

// noType reports a missing type, or the key that was meant to be it.
func (d *decoder) noType(n *yaml.Node, path string, pairs []pair, proposed []string) {
	for _, p := range pairs {
		if nearest(p.key, []string{"type"}) != "" {
			d.unknownKey(p, path, []string{"type"})
			return
		}
	}
	d.fail(n, joinPath(path, "type"), path+" has no type", "give one: "+orList(proposed))
}
