package config

import (
	"bytes"
	"path/filepath"
	"reflect"

	"rollcall/discovery/source/file"
)

// DecodeInventory decodes a file of desired resources, for the source `file`.
// It's as strict as Parse, and its errors have places as Parse's do. place says
// where a field of the document stands: "file:line:column".
func DecodeInventory(name string, data []byte) (doc file.Document, place func(field string) string, err error) {
	if filepath.Ext(name) == ".json" {
		// JSON may be indented with tabs, and has none anywhere else.
		data = bytes.ReplaceAll(data, []byte("\t"), []byte(" "))
	}
	root, bad := rootNode(name, data, words{
		empty:   "write `resources: []` if nothing is to be registered",
		mapping: "the file must be a mapping with the key `resources`",
	})
	if bad != nil {
		return doc, nil, Errors{bad}.asError()
	}
	d := newDecoder(name)
	// An inventory may be long. What isn't an alias takes a byte at least.
	d.most = max(maxNodes, len(data))
	d.structure(root, "", reflect.ValueOf(&doc).Elem())
	if err := d.errs.asError(); err != nil {
		return doc, nil, err
	}
	return doc, func(field string) string { return d.nearestPlace(field).String() }, nil
}

// nearestPlace is where a field stands, or else what holds it.
func (d *decoder) nearestPlace(field string) Position {
	for ; field != ""; field = parentPath(field) {
		if at, ok := d.places[field]; ok {
			return at
		}
	}
	return Position{d.file, 1, 1}
}
