package template

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
	"unicode/utf8"

	"rollcall/failure"
)

// text is one template of the options.
type text struct{ field, text string }

// texts are all templates of the options.
func (o *Options) texts() []text {
	var all []text
	for key, value := range o.Labels {
		all = append(all, text{labelField(key), value})
	}
	slices.SortFunc(all, func(a, b text) int { return cmp.Compare(a.field, b.field) })
	for i, host := range o.Rewrite.Redirect {
		all = append(all, text{redirectField(i), host})
	}
	return append(all,
		text{"name", o.Name},
		text{"description", o.Description},
		text{"uri", o.URI},
		text{"public_addr", o.PublicAddr},
		text{"server_name", o.ServerName},
		text{"kubeconfig", o.Kubeconfig},
		text{"addr", o.Addr},
	)
}

func labelField(key string) string { return "labels." + key }

func redirectField(i int) string { return fmt.Sprintf("rewrite.redirect[%d]", i) }

// parseText makes a template of a field's text, or returns a
// failure.FieldError that says at which character it goes wrong.
func parseText(field, body string) (*template.Template, error) {
	if len(body) > maxText {
		return nil, failure.Field(field, "is longer than %d bytes", maxText)
	}
	t, err := template.New(field).Option("missingkey=error").Funcs(functions()).Parse(body)
	if err != nil {
		return nil, failure.Field(field, "isn't a template: %s", parserSays(field, err))
	}
	if len(t.Templates()) > 1 {
		return nil, failure.Field(field, "defines a template of its own, and there's no use for one here")
	}
	w := walker{body: body}
	if t.Tree != nil && t.Root != nil {
		w.visit(t.Root)
	}
	if w.problem != "" {
		return nil, failure.Field(field, "at character %d: %s", w.at, w.problem)
	}
	return t, nil
}

// parserSays returns the parser's words without the template's name.
func parserSays(field string, err error) string {
	said := strings.TrimPrefix(err.Error(), "template: "+field+":")
	if line, rest, found := strings.Cut(said, ": "); found && strings.Trim(line, "0123456789") == "" {
		if line == "1" {
			return rest
		}
		return "line " + line + ": " + rest
	}
	return said
}

// walker looks for what a template may not use. It notes the first.
type walker struct {
	body    string
	problem string
	at      int
}

func (w *walker) fail(n parse.Node, format string, args ...any) {
	if w.problem != "" {
		return
	}
	before := w.body[:min(int(n.Position()), len(w.body))]
	w.at = utf8.RuneCountInString(before) + 1
	w.problem = fmt.Sprintf(format, args...)
}

func (w *walker) visit(n parse.Node) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return
		}
		for _, inner := range n.Nodes {
			w.visit(inner)
		}
	case *parse.ActionNode:
		w.pipe(n.Pipe)
	case *parse.IfNode:
		w.pipe(n.Pipe)
		w.visit(n.List)
		w.visit(n.ElseList)
	case *parse.TextNode, *parse.CommentNode:
	default:
		// range, with, template, break, continue: loops have no bound, and
		// inside `with` a field's name means something else.
		w.fail(n, "only values, pipes and if are possible here")
	}
}

func (w *walker) pipe(p *parse.PipeNode) {
	if p == nil {
		return
	}
	for _, command := range p.Cmds {
		for _, argument := range command.Args {
			w.argument(argument)
		}
	}
}

func (w *walker) argument(n parse.Node) {
	switch n := n.(type) {
	case *parse.PipeNode:
		w.pipe(n)
	case *parse.ChainNode:
		w.argument(n.Node)
	case *parse.FieldNode:
		w.field(n, n.Ident[0])
	case *parse.VariableNode:
		if n.Ident[0] == "$" {
			w.field(n, strings.Join(n.Ident[1:min(2, len(n.Ident))], ""))
		}
	case *parse.DotNode:
		w.field(n, "")
	case *parse.IdentifierNode:
		if !slices.Contains(functionNames(), n.Ident) {
			w.fail(n, "the function %s can't be used here; there are %s", n.Ident, strings.Join(functionNames(), ", "))
		}
	}
}

func (w *walker) field(n parse.Node, name string) {
	if slices.Contains(fields(), name) {
		return
	}
	if name == "" {
		w.fail(n, "name a field: one of .%s", strings.Join(fields(), ", ."))
		return
	}
	w.fail(n, "there's no field .%s; there are .%s", name, strings.Join(fields(), ", ."))
}
