package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"rollcall/destination"
	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
	"rollcall/discovery/settings"
	"rollcall/discovery/source/docker"
)

// enums are the values of the types that take one of a few words. The empty
// word stands for the default everywhere.
func enums() map[reflect.Type][]string {
	return map[reflect.Type][]string{
		reflect.TypeFor[destination.SymlinkMode](): {
			string(destination.SymlinksTrySecure), string(destination.SymlinksSecure), string(destination.SymlinksInsecure),
		},
		reflect.TypeFor[destination.ACLMode](): {
			string(destination.ACLTry), string(destination.ACLRequired), string(destination.ACLOff),
		},
		reflect.TypeFor[destination.UpdateMode](): {
			string(destination.UpdateSet), string(destination.UpdateFile), string(destination.UpdateInPlace),
		},
		reflect.TypeFor[LogFormat]():         {string(LogFormatText), string(LogFormatJSON)},
		reflect.TypeFor[settings.Register](): {string(settings.RegisterDynamic), string(settings.RegisterAgent)},
		reflect.TypeFor[plan.Policy]():       {string(plan.PolicySync), string(plan.PolicyUpsertOnly), string(plan.PolicyCreateOnly)},
		reflect.TypeFor[resource.Kind]():     wordsOf(resource.Kinds()),
		reflect.TypeFor[docker.Select]():     {string(docker.SelectLabelled), string(docker.SelectAll)},
		reflect.TypeFor[docker.Address]():    {string(docker.AddressContainer), string(docker.AddressPublished)},
		reflect.TypeFor[docker.Policy]():     {string(docker.PolicyRegister), string(docker.PolicyWithhold)},
		reflect.TypeFor[databaseFormat]():    {"tls", "mongo", "cockroach"},
	}
}

func wordsOf[T ~string](values []T) []string {
	var all []string
	for _, value := range values {
		all = append(all, string(value))
	}
	return all
}

func (d *decoder) scalar(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.wrongType(n, path, scalarNoun(v.Kind()))
		return
	}
	switch v.Kind() {
	case reflect.String:
		if v.Type() != reflect.TypeFor[string]() && !d.oneOf(n, path, enums()[v.Type()]) {
			return
		}
		// As the official agent does, a number or a truth value counts as
		// its own text: tokens may consist of digits only.
		v.SetString(n.Value)
	case reflect.Bool:
		d.truth(n, path, v)
	case reflect.Int:
		number, err := strconv.Atoi(n.Value)
		if errors.Is(err, strconv.ErrRange) {
			d.fail(n, path, fmt.Sprintf("%s is %s, which is too large", path, short(n.Value)), "give a smaller number")
			return
		}
		if err != nil {
			d.fail(n, path, fmt.Sprintf("%s must be a whole number, not %q", path, short(n.Value)), "write it in digits, such as 10")
			return
		}
		v.SetInt(int64(number))
	default:
		// Only a room's new option can bring a kind that isn't here, and the
		// reference's test walks all of them.
		d.fail(n, path, fmt.Sprintf("%s can't be decoded: kind %s", path, v.Kind()), "report this")
	}
}

func scalarNoun(kind reflect.Kind) string {
	switch kind {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	default:
		return "text"
	}
}

// oneOf reports whether a node holds one of the allowed words, or none.
func (d *decoder) oneOf(n *yaml.Node, path string, allowed []string) bool {
	if len(allowed) == 0 || n.Value == "" || slices.Contains(allowed, n.Value) {
		return true
	}
	d.fail(n, path, fmt.Sprintf("%s must be %s, not %q", path, orList(allowed), short(n.Value)),
		didYouMean(n.Value, allowed))
	return false
}

// truth accepts the words that yaml.v3, and with it the official agent, takes
// for a truth value.
func (d *decoder) truth(n *yaml.Node, path string, v reflect.Value) {
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		d.wrongType(n, path, "true or false, without quotes")
		return
	}
	switch strings.ToLower(n.Value) {
	case "true", "yes", "on", "y":
		v.SetBool(true)
	case "false", "no", "off", "n":
		v.SetBool(false)
	default:
		d.fail(n, path, fmt.Sprintf("%s must be true or false, not %q", path, short(n.Value)), "")
	}
}

func (d *decoder) duration(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.wrongType(n, path, "a duration, like 20m or 1h")
		return
	}
	length, err := time.ParseDuration(n.Value)
	if err != nil || hasNoUnit(n.Value) {
		suggestion := ""
		if hasNoUnit(n.Value) {
			suggestion = fmt.Sprintf("give a unit: %ss, %sm or %sh", n.Value, n.Value, n.Value)
		}
		d.fail(n, path, fmt.Sprintf("%s must be a duration, like 20m or 1h, not %q", path, short(n.Value)), suggestion)
		return
	}
	v.SetInt(int64(length))
}

// hasNoUnit reports whether text is a bare number. The standard library takes
// a bare 0; the official agent doesn't, and neither do we.
func hasNoUnit(text string) bool {
	_, err := strconv.ParseFloat(text, 64)
	return err == nil && len(text) < 16
}

// wrongType says what was expected and what kind of thing was found. It never
// shows the value, which may be a secret in the wrong place.
func (d *decoder) wrongType(n *yaml.Node, path, want string) {
	found := map[yaml.Kind]string{
		yaml.MappingNode:  "a mapping",
		yaml.SequenceNode: "a list",
		yaml.ScalarNode:   "a single value",
	}[n.Kind]
	where := path
	if where == "" {
		where = "the file"
	}
	d.fail(n, path, fmt.Sprintf("%s must be %s, but it's %s", where, want, found), "")
}
