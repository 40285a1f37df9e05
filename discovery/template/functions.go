package template

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"unicode/utf8"
)

// maxText bounds what a function or a whole template gives, in bytes.
const maxText = 4096

var errTooLong = fmt.Errorf("the text is longer than %d bytes", maxText)

// functions are ours. All of them give short texts.
func functions() template.FuncMap {
	return template.FuncMap{
		// dashes turns everything but letters and digits into "-".
		"dashes": func(v any) (string, error) { return bounded(dashes(fmt.Sprint(v))) },
		"lower":  func(v any) (string, error) { return bounded(strings.ToLower(fmt.Sprint(v))) },
		"upper":  func(v any) (string, error) { return bounded(strings.ToUpper(fmt.Sprint(v))) },
		// trunc keeps the first so many characters: {{ .ID | trunc 6 }}.
		"trunc": func(most int, v any) (string, error) { return bounded(trunc(most, fmt.Sprint(v))) },
		// default stands in for what is empty: {{ .Service | default .Name }}.
		"default": func(instead, v any) (string, error) {
			if text := fmt.Sprint(v); v != nil && text != "" && text != "0" {
				return bounded(text)
			}
			return bounded(fmt.Sprint(instead))
		},
		// replace puts one text for another: {{ .Name | replace "_" "-" }}.
		"replace": replace,
		// trimPrefix and trimSuffix: {{ .Name | trimPrefix "prod-" }}.
		"trimPrefix": func(prefix string, v any) (string, error) {
			return bounded(strings.TrimPrefix(fmt.Sprint(v), prefix))
		},
		"trimSuffix": func(suffix string, v any) (string, error) {
			return bounded(strings.TrimSuffix(fmt.Sprint(v), suffix))
		},
		"print": func(v ...any) (string, error) { return bounded(fmt.Sprint(v...)) },
	}
}

// builtins are Go's own that can't make long texts.
func builtins() []string {
	return []string{"and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice"}
}

// functionNames are all that a template may call.
func functionNames() []string {
	names := builtins()
	for name := range functions() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func bounded(text string) (string, error) {
	if len(text) > maxText {
		return "", errTooLong
	}
	return text, nil
}

func dashes(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, text)
}

func trunc(most int, text string) string {
	if most < 0 || utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most])
}

func replace(old, instead string, v any) (string, error) {
	if old == "" {
		return "", errors.New("replace needs something to look for")
	}
	text := fmt.Sprint(v)
	if len(text)+strings.Count(text, old)*len(instead) > 2*maxText {
		return "", errTooLong
	}
	return bounded(strings.ReplaceAll(text, old, instead))
}
