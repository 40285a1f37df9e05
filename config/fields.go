package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// field is one key of a struct, by its yaml tag.
type field struct {
	Key   string
	Index []int
	// Struct is the struct type that declares the field, Name its Go name:
	// the reference finds the comment by them.
	Struct reflect.Type
	Name   string
	Type   reflect.Type
}

// listFields returns a struct's keys in their order, with those of inlined
// structs in place. The tag `omit:"a,b"` of an inlined struct hides keys.
func listFields(t reflect.Type) []field {
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if tag == "-" || !f.IsExported() {
			continue
		}
		if strings.Contains(options, "inline") {
			hidden := strings.Split(f.Tag.Get("omit"), ",")
			for _, inner := range listFields(f.Type) {
				if !slices.Contains(hidden, inner.Key) {
					inner.Index = append([]int{i}, inner.Index...)
					all = append(all, inner)
				}
			}
			continue
		}
		if tag == "" {
			tag = strings.ToLower(f.Name)
		}
		all = append(all, field{Key: tag, Index: []int{i}, Struct: t, Name: f.Name, Type: f.Type})
	}
	return all
}

func fieldsOf(t reflect.Type) map[string]field {
	byKey := map[string]field{}
	for _, f := range listFields(t) {
		byKey[f.Key] = f
	}
	return byKey
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for _, f := range listFields(t) {
		keys = append(keys, f.Key)
	}
	return keys
}

// joinPath appends a key to a YAML path.
func joinPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// parentPath returns the path of what holds path: outputs[0].app_name is in
// outputs[0], that in outputs, and that in "".
func parentPath(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// orList joins words as a sentence does: "a, b or c".
func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return fmt.Sprintf("%s or %s", strings.Join(words[:len(words)-1], ", "), words[len(words)-1])
}

// short cuts a text that is shown in an error.
func short(text string) string {
	const most = 40
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most]) + "…"
}

func sorted(words []string) []string {
	out := slices.Clone(words)
	slices.Sort(out)
	return out
}
