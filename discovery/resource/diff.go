package resource

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Change is one field in which two resources differ, for people. A field that
// isn't there is empty; secrets are hashes.
type Change struct {
	// Field is its path: "description", "labels.env", "spec.uri".
	Field  string `json:"field"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// String returns "spec.uri: a -> b".
func (c Change) String() string {
	return c.Field + ": " + strconv.Quote(c.Before) + " -> " + strconv.Quote(c.After)
}

// Diff returns the fields in which two resources differ, sorted; nil stands for
// a resource that isn't there. Expires is among them.
func Diff(before, after *Resource) []Change {
	old, fresh := fields(before), fields(after)
	var changes []Change
	for _, field := range slices.Sorted(maps.Keys(union(old, fresh))) {
		if old[field] != fresh[field] {
			changes = append(changes, Change{Field: field, Before: old[field], After: fresh[field]})
		}
	}
	return changes
}

func union(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// fields flattens a resource. It's for differences that are shown; Equal finds
// out more cheaply whether there are any.
func fields(r *Resource) map[string]string {
	all := map[string]string{}
	if r == nil {
		return all
	}
	set := func(field, value string) {
		if value != "" {
			all[field] = value
		}
	}
	set("description", r.Description)
	if !r.Expires.IsZero() {
		set("expires", r.Expires.UTC().Format(time.RFC3339))
	}
	for key, value := range r.Labels {
		if !strings.HasPrefix(key, TeleportLabelPrefix) {
			all["labels."+key] = value
		}
	}
	switch s := r.Spec.(type) {
	case AppSpec:
		set("spec.uri", shownURI(s.URI))
		set("spec.public_addr", s.PublicAddr)
		if s.InsecureSkipVerify {
			set("spec.insecure_skip_verify", "true")
		}
		if s.Rewrite != nil {
			for i, header := range s.Rewrite.Headers {
				// A header that is set can be a credential.
				set(fmt.Sprintf("spec.rewrite.headers[%d]", i), header.Name+": "+Secret(header.Value).String())
			}
			set("spec.rewrite.redirect", strings.Join(s.Rewrite.Redirect, ", "))
		}
		setDynamic(set, s.DynamicLabels)
	case DatabaseSpec:
		set("spec.protocol", s.Protocol)
		set("spec.uri", shownURI(s.URI))
		set("spec.ca_cert", Secret(s.CACert).String()) // no secret, but nothing to read either
		set("spec.tls_mode", s.tlsMode())
		set("spec.server_name", s.ServerName)
		setDynamic(set, s.DynamicLabels)
	case KubeClusterSpec:
		set("spec.kubeconfig", s.Kubeconfig.String())
		setDynamic(set, s.DynamicLabels)
	case WindowsDesktopSpec:
		set("spec.addr", s.Addr)
		set("spec.host_id", s.HostID)
		set("spec.domain", s.Domain)
		if s.NonAD {
			set("spec.non_ad", "true")
		}
	}
	return all
}

func setDynamic(set func(field, value string), labels map[string]DynamicLabel) {
	for name, label := range labels {
		set("spec.dynamic_labels."+name, label.Period.String()+" "+strings.Join(label.Command, " "))
	}
}

// MarshalJSON gives the resource with its fields as words, and secrets as
// hashes.
func (r Resource) MarshalJSON() ([]byte, error) {
	shown := struct {
		Kind        Kind              `json:"kind"`
		Name        string            `json:"name"`
		Description string            `json:"description,omitempty"`
		Labels      map[string]string `json:"labels,omitempty"`
		Expires     *time.Time        `json:"expires,omitempty"`
		Spec        Spec              `json:"spec,omitempty"`
	}{Kind: r.Kind, Name: r.Name, Description: r.Description, Labels: r.Labels, Spec: shownSpec(r.Spec)}
	if !r.Expires.IsZero() {
		expires := r.Expires.UTC()
		shown.Expires = &expires
	}
	return json.Marshal(shown)
}

// shownSpec is a spec as people may see it.
func shownSpec(spec Spec) Spec {
	switch s := spec.(type) {
	case AppSpec:
		s.URI = shownURI(s.URI)
		return s
	case DatabaseSpec:
		s.URI = shownURI(s.URI)
		return s
	}
	return spec
}

// shownURI is a URI with its password, if it has one, as a hash.
func shownURI(uri string) string {
	scheme, rest, found := strings.Cut(uri, "://")
	authority, path, hasPath := strings.Cut(rest, "/")
	at := strings.LastIndex(authority, "@")
	if !found || at < 0 {
		return uri
	}
	name, password, hasPassword := strings.Cut(authority[:at], ":")
	if !hasPassword {
		return uri
	}
	shown := scheme + "://" + name + ":" + Secret(password).String() + authority[at:]
	if hasPath {
		shown += "/" + path
	}
	return shown
}

// MarshalJSON hides the value, which can be a credential.
func (h Header) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}{h.Name, Secret(h.Value).String()})
}

// MarshalJSON gives the period as people write it.
func (l DynamicLabel) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Period  string   `json:"period"`
		Command []string `json:"command"`
	}{l.Period.String(), l.Command})
}
