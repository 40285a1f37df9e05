package config

import (
	"errors"
	"os"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"rollcall/failure"
)

// FuzzParse holds that no text makes the decoder panic, that every error has a
// place, and that no error shows the token.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*.good.yml", "testdata/*.bad.yml"} {
		for _, file := range mustGlob(f, pattern) {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := parse("f.yaml", data)
		err := c.Check()
		if err == nil {
			return
		}
		if failure.KindOf(err) != failure.Configuration {
			t.Fatalf("kind %s", failure.KindOf(err))
		}
		var all Errors
		if !errors.As(err, &all) || len(all) == 0 {
			t.Fatalf("no list of errors: %v", err)
		}
		token := tokenIn(data)
		for _, one := range all {
			if one.Line < 1 || one.Column < 1 || one.File != "f.yaml" {
				t.Errorf("no place: %v", one)
			}
			if token != "" && strings.Contains(one.Message+one.Suggestion, token) {
				t.Errorf("shows the token: %v", one)
			}
		}
	})
}

// tokenIn returns the token of a text, if it looks like one (our own words have
// no two digits in them) and stands in the text only once: a user who writes it
// elsewhere too, as a key or a type, may see it there.
func tokenIn(data []byte) string {
	var doc struct {
		Onboarding struct {
			Token string `yaml:"token"`
		} `yaml:"onboarding"`
	}
	_ = yaml.Unmarshal(data, &doc)
	token := doc.Onboarding.Token
	digits := strings.Count(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '0'
		}
		return 'x'
	}, token), "0")
	if len(token) < 8 || digits < 2 || strings.Count(string(data), token) != 1 {
		return ""
	}
	return token
}

func mustGlob(f *testing.F, pattern string) []string {
	f.Helper()
	found := globbed(pattern)
	if len(found) == 0 {
		f.Fatalf("nothing matches %s", pattern)
	}
	return found
}
