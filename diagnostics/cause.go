package diagnostics

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gravitational/trace"
)

// causes returns everything that is known about an error, for --debug: each
// error of its chain that says something new, with its type, and the stack
// that was taken nearest to the origin. It returns "" if that adds nothing.
func causes(err error) string {
	var chain []string
	var stack string
	walk(err, func(err error) {
		var traced *trace.TraceErr
		if t, ok := err.(*trace.TraceErr); ok { // every layer is visited by itself
			traced = t
		}
		if traced != nil {
			stack = traced.Traces.String()
			return
		}
		chain = append(chain, fmt.Sprintf("%T: %s", err, err.Error()))
	})
	if len(chain) < 2 && stack == "" {
		return ""
	}
	text := strings.Join(chain, "\ncaused by ")
	if stack != "" {
		text += "\nat\n" + stack
	}
	return text
}

// walk visits an error and all below it, outermost first.
func walk(err error, visit func(error)) {
	if err == nil {
		return
	}
	visit(err)
	if many, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // Every layer is visited by itself.
		for _, below := range many.Unwrap() {
			walk(below, visit)
		}
		return
	}
	walk(errors.Unwrap(err), visit)
}
