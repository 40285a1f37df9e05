package template

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"golang.org/x/sys/unix"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

// Template makes resources of facts. It's safe for concurrent use.
type Template struct {
	options Options
	texts   map[string]*template.Template
}

// New returns the template of options that Validate has passed; it validates
// them once more.
func New(options Options) (*Template, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	t := &Template{options: options, texts: map[string]*template.Template{}}
	for _, one := range options.texts() {
		parsed, err := parseText(one.field, one.text)
		if err != nil {
			return nil, err
		}
		t.texts[one.field] = parsed
	}
	return t, nil
}

// Kind is the kind of the resources that it makes.
func (t *Template) Kind() resource.Kind { return t.options.Kind }

// Result is what a template made of a workload.
type Result struct {
	Resource resource.Resource
	// Rendered is the name as the template gave it, before it was made valid.
	Rendered string
}

// Render makes the resource of a workload. An error is one or more
// failure.FieldErrors, joined, by the options' keys.
func (t *Template) Render(f Facts) (Result, error) {
	return (&renderer{options: &t.options, execute: t.execute, facts: f}).render()
}

// Literal makes the resource that options without templates are: what stands
// in them is taken as it is. dir is where relative paths begin, and what files
// can't be outside of: who writes an entry may not publish whatever the agent
// can read. An error is one or more failure.FieldErrors, joined.
func (o Options) Literal(dir string) (resource.Resource, error) {
	if o.Kind == "" {
		o.Kind = resource.KindApp
	}
	for _, path := range []*string{&o.Kubeconfig, &o.CACertFile} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	if err := errors.Join(o.CheckKind(), o.checkFiles()); err != nil {
		return resource.Resource{}, err
	}
	texts := map[string]string{}
	for _, one := range o.texts() {
		texts[one.field] = one.text
	}
	r := &renderer{options: &o, literal: true, dir: dir, execute: func(field string, _ Facts) (string, error) { return texts[field], nil }}
	result, err := r.render()
	return result.Resource, err
}

// renderer is one run of a template. It gathers errors.
type renderer struct {
	options *Options
	execute func(field string, f Facts) (string, error)
	facts   Facts
	// literal says that a name is taken as it is.
	literal bool
	// dir is the directory that a literal's files can't be outside of.
	dir  string
	errs []error
}

func (r *renderer) render() (Result, error) {
	name := r.text("name")
	out := Result{Rendered: name, Resource: resource.Resource{
		Kind:        r.options.Kind,
		Name:        r.name(name),
		Description: r.text("description"),
		Labels:      r.labels(),
		Spec:        r.spec(),
	}}
	if len(r.errs) > 0 {
		return out, errors.Join(r.errs...)
	}
	return out, resource.Check(out.Resource)
}

func (r *renderer) fail(field, format string, args ...any) {
	r.errs = append(r.errs, failure.Field(field, format, args...))
}

// text renders a field's template.
func (r *renderer) text(field string) string {
	out, err := r.execute(field, r.facts)
	if err != nil {
		r.fail(field, "%s", executionSays(field, err))
		return ""
	}
	return out
}

func (t *Template) execute(field string, f Facts) (string, error) {
	var out boundedWriter
	if err := t.texts[field].Execute(&out, f); err != nil {
		return "", err
	}
	return strings.TrimSpace(out.String()), nil
}

// executionSays returns the engine's words with the place, and without the
// name, which the error has already.
func executionSays(field string, err error) string {
	if errors.Is(err, errTooLong) {
		return errTooLong.Error()
	}
	said := strings.TrimPrefix(err.Error(), "template: "+field+":")
	place, rest, found := strings.Cut(said, ": executing ")
	if !found {
		return said
	}
	_, column, _ := strings.Cut(place, ":")
	_, rest, _ = strings.Cut(rest, " at ")
	// The engine counts bytes from 0.
	at := 0
	_, _ = fmt.Sscan(column, &at)
	return fmt.Sprintf("the template fails at character %d: %s", at+1, rest)
}

func (r *renderer) name(rendered string) string {
	if r.literal {
		return rendered // resource.Check says what is wrong with it
	}
	if rendered == "" {
		if len(r.errs) == 0 {
			r.fail("name", "the template gives nothing")
		}
		return ""
	}
	return resource.DNSName(r.options.Kind, rendered)
}

func (r *renderer) labels() map[string]string {
	labels := map[string]string{}
	for key := range r.options.Labels {
		labels[key] = r.text(labelField(key))
	}
	return labels
}

func (r *renderer) spec() resource.Spec {
	o := r.options
	switch o.Kind {
	case resource.KindApp:
		return resource.AppSpec{
			URI:                r.hosted("uri"),
			PublicAddr:         strings.ToLower(r.text("public_addr")),
			InsecureSkipVerify: o.InsecureSkipVerify,
			Rewrite:            r.rewrite(),
			DynamicLabels:      o.DynamicLabels,
		}
	case resource.KindDatabase:
		return resource.DatabaseSpec{
			Protocol:      o.Protocol,
			URI:           r.hosted("uri"),
			CACert:        r.caCert(),
			TLSMode:       o.TLSMode,
			ServerName:    r.text("server_name"),
			DynamicLabels: o.DynamicLabels,
		}
	case resource.KindKubeCluster:
		return resource.KubeClusterSpec{Kubeconfig: r.kubeconfig(), DynamicLabels: o.DynamicLabels}
	default:
		return resource.WindowsDesktopSpec{Addr: r.hosted("addr"), HostID: o.HostID, Domain: o.Domain, NonAD: o.NonAD}
	}
}

func (r *renderer) rewrite() *resource.Rewrite {
	o := r.options.Rewrite
	if len(o.Headers)+len(o.Redirect) == 0 {
		return nil
	}
	out := &resource.Rewrite{Headers: o.Headers}
	for i := range o.Redirect {
		out.Redirect = append(out.Redirect, r.text(redirectField(i)))
	}
	return out
}

// hosted renders an address, and refuses one whose host depends on what
// whoever started the container chose.
func (r *renderer) hosted(field string) string {
	address := r.text(field)
	if address == "" {
		return address
	}
	disguised, err := r.execute(field, r.facts.disguised())
	if err != nil || hostOf(disguised) != hostOf(address) {
		r.fail(field, "the host of %q depends on the container's name, labels, image or network, and those who start containers may not choose it; use .IP, .Host or .ID", resource.Short(address))
		return ""
	}
	return address
}

// hostOf returns all of an address that decides where a connection goes, the
// port excepted.
func hostOf(address string) string {
	if !strings.Contains(address, "://") {
		if host, _, err := net.SplitHostPort(address); err == nil {
			return host
		}
		return address
	}
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.User.String() + "@" + u.Hostname()
}

// kubeconfig returns a kubeconfig's content.
func (r *renderer) kubeconfig() resource.Secret {
	o := r.options
	if o.KubeconfigInline != "" {
		return resource.Secret(o.KubeconfigInline)
	}
	path := r.text("kubeconfig")
	if path == "" {
		return ""
	}
	if filepath.Clean(path) != path || filepath.Dir(path) != filepath.Dir(o.Kubeconfig) {
		r.fail("kubeconfig", "gives %q, which isn't in %s", resource.Short(path), filepath.Dir(o.Kubeconfig))
		return ""
	}
	return resource.Secret(r.file("kubeconfig", path))
}

func (r *renderer) caCert() string {
	o := r.options
	if o.CACertFile == "" {
		return o.CACert
	}
	text := r.file("ca_cert_file", o.CACertFile)
	certificates, err := onlyCertificates(text)
	if err != nil && text != "" {
		r.fail("ca_cert_file", "%v", err)
	}
	return certificates
}

// onlyCertificates returns a file's certificates, and nothing else of it. A
// file with anything but certificates is an error: it may hold a key.
func onlyCertificates(text string) (string, error) {
	var out strings.Builder
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return "", failure.New(failure.Configuration, "holds a %s beside certificates; give a file with certificates alone, since all of it would be published", block.Type)
		}
		block.Headers = nil
		out.Write(pem.EncodeToMemory(block))
	}
	if out.Len() == 0 {
		return "", failure.New(failure.Configuration, "holds no certificate in PEM")
	}
	return out.String(), nil
}

// file reads a file, bounded.
func (r *renderer) file(field, path string) string {
	text, err := r.read(path)
	if err != nil {
		r.fail(field, "%v", err)
	}
	return text
}

func (r *renderer) read(path string) (string, error) {
	if !r.literal {
		return ReadFile(path)
	}
	inside, err := filepath.Rel(r.dir, path)
	if err != nil || !filepath.IsLocal(inside) {
		return "", failure.New(failure.Configuration, "is %q, and must be in the entry's own directory %s", resource.Short(path), r.dir)
	}
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		return "", failure.Wrap(failure.Configuration, err, "can't be read: %v", err)
	}
	defer root.Close()
	// Links that lead out of the directory are refused here.
	f, err := root.OpenFile(inside, os.O_RDONLY|unix.O_NONBLOCK, 0)
	return readOpened(path, f, err)
}

// ReadFile reads a kubeconfig or a certificate of at most
// resource.MaxKubeconfig bytes.
func ReadFile(path string) (string, error) {
	// Without O_NONBLOCK, opening a named pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	return readOpened(path, f, err)
}

// readOpened reads and closes what was opened, or has the error of opening it.
func readOpened(path string, f *os.File, err error) (string, error) {
	if err != nil {
		return "", failure.Wrap(failure.Configuration, err, "can't be read: %v", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", failure.New(failure.Configuration, "%s is no plain file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, resource.MaxKubeconfig+1))
	if err != nil {
		return "", failure.Wrap(failure.Configuration, err, "can't be read: %v", err)
	}
	if len(data) > resource.MaxKubeconfig {
		return "", failure.New(failure.Configuration, "%s is larger than %d KiB: is it the right file?", path, resource.MaxKubeconfig>>10)
	}
	return string(data), nil
}

// boundedWriter gathers at most maxText bytes.
type boundedWriter struct{ strings.Builder }

func (w *boundedWriter) Write(p []byte) (int, error) {
	if w.Len()+len(p) > maxText {
		return 0, errTooLong
	}
	return w.Builder.Write(p)
}
