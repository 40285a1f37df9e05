package resource

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gravitational/teleport/api/types/common"

	"rollcall/failure"
)

// Bounds of what a resource may hold. They are ours: far beyond what people
// write, and small enough that nobody fills a cluster's backend by a label.
const (
	MaxLabels      = 64
	MaxLabelKey    = 256
	MaxLabelValue  = 1024
	MaxDescription = 1024
	MaxURI         = 2048
	MaxHost        = 253
	MaxKubeconfig  = 256 << 10
)

// Check says what is wrong with a resource: failure.FieldErrors, joined, by
// the names that the configuration has for the fields. A resource that passes
// can still be refused by the cluster, which knows more.
func Check(r Resource) error {
	errs := []error{CheckName(r.Kind, r.Name), CheckText("description", r.Description, MaxDescription)}
	errs = append(errs, CheckLabels("labels", r.Labels))
	switch spec := r.Spec.(type) {
	case AppSpec:
		errs = append(errs, checkApp(spec))
	case DatabaseSpec:
		errs = append(errs, checkDatabase(spec))
	case KubeClusterSpec:
		errs = append(errs, checkKubeCluster(spec))
	case WindowsDesktopSpec:
		errs = append(errs, checkDesktop(spec))
	default:
		errs = append(errs, failure.Field("kind", "is %q: use app, db, kube_cluster or windows_desktop", r.Kind))
	}
	return errors.Join(errs...)
}

// CheckName wants a name that DNSName would leave as it is.
func CheckName(kind Kind, name string) error {
	switch {
	case name == "":
		return failure.Field("name", "is empty")
	case !ValidName(kind, name):
		return failure.Field("name", "is %q, and must be a DNS label: at most %d of a-z, 0-9 and \"-\"; %q would do", Short(name), MaxName, DNSName(kind, name))
	}
	return nil
}

// CheckText refuses text that is too long, isn't UTF-8, or holds control
// characters.
func CheckText(field, text string, most int) error {
	switch {
	case len(text) > most:
		return failure.Field(field, "is %d bytes long, and %d is the most", len(text), most)
	case !utf8.ValidString(text):
		return failure.Field(field, "isn't UTF-8")
	case strings.ContainsFunc(text, unicode.IsControl):
		return failure.Field(field, "holds a control character (a line's end, a tab): %q", Short(text))
	}
	return nil
}

// CheckLabels checks keys and values, and refuses those that aren't for people
// to set.
func CheckLabels(field string, labels map[string]string) error {
	var errs []error
	if len(labels) > MaxLabels {
		errs = append(errs, failure.Field(field, "are %d labels, and %d is the most", len(labels), MaxLabels))
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if err := CheckLabelKey(field, key); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, CheckText(field+"."+key, labels[key], MaxLabelValue))
	}
	return errors.Join(errs...)
}

// CheckLabelKey wants a key that Teleport takes and that is neither the
// reconciler's nor Teleport's own.
func CheckLabelKey(field, key string) error {
	switch {
	case len(key) > MaxLabelKey || !common.IsValidLabelKey(key):
		return failure.Field(field, "the key %q must be at most %d of letters, digits and / . _ : * -", Short(key), MaxLabelKey)
	case ReservedLabel(key):
		return failure.Field(field+"."+key, "is reserved: keys that begin with %s are the reconciler's own, and teleport. ones are Teleport's", LabelPrefix)
	}
	return nil
}

// ReservedLabel says if only the reconciler or Teleport sets a label.
func ReservedLabel(key string) bool {
	key = strings.ToLower(key)
	for _, prefix := range []string{LabelPrefix, TeleportLabelPrefix, "teleport.internal/", "teleport.hidden/"} {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

func checkApp(spec AppSpec) error {
	errs := []error{CheckURI("uri", spec.URI)}
	if spec.PublicAddr != "" && !ValidHost(spec.PublicAddr) {
		errs = append(errs, failure.Field("public_addr", "is %q, and must be a host name without scheme and port", Short(spec.PublicAddr)))
	}
	return errors.Join(append(errs, checkRewrite(spec.Rewrite), CheckDynamicLabels(spec.DynamicLabels))...)
}

func checkRewrite(rewrite *Rewrite) error {
	if rewrite == nil {
		return nil
	}
	var errs []error
	for i, h := range rewrite.Headers {
		field := fmt.Sprintf("rewrite.headers[%d]", i)
		if h.Name == "" || strings.ContainsFunc(h.Name, notToken) {
			errs = append(errs, failure.Field(field+".name", "is %q, which is no name of a header", Short(h.Name)))
		}
		errs = append(errs, CheckText(field+".value", h.Value, 8<<10))
	}
	for i, host := range rewrite.Redirect {
		if !ValidHost(host) {
			errs = append(errs, failure.Field(fmt.Sprintf("rewrite.redirect[%d]", i), "is %q, and must be a host name or an address", Short(host)))
		}
	}
	return errors.Join(errs...)
}

// notToken says if a character can't stand in a header's name (RFC 9110).
func notToken(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || digit(r) || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
}

// CheckDynamicLabels checks labels whose value a command finds out.
func CheckDynamicLabels(labels map[string]DynamicLabel) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		field := "dynamic_labels." + key
		errs = append(errs, CheckLabelKey("dynamic_labels", key))
		if labels[key].Period < time.Second {
			errs = append(errs, failure.Field(field+".period", "is %s, and a second is the least", labels[key].Period))
		}
		if len(labels[key].Command) == 0 || labels[key].Command[0] == "" {
			errs = append(errs, failure.Field(field+".command", "is empty; give a program and its arguments"))
		}
	}
	return errors.Join(errs...)
}

// CheckURI wants an application's address: a scheme that Teleport proxies, a
// host, and a port within bounds.
func CheckURI(field, uri string) error {
	if err := CheckText(field, uri, MaxURI); err != nil {
		return err
	}
	u, err := url.Parse(uri)
	switch {
	case uri == "":
		return failure.Field(field, "is empty; give one such as http://127.0.0.1:3000")
	case err != nil || strings.ContainsAny(uri, " \"<>\\^`{|}"):
		return failure.Field(field, "is %q, which is no URI", Short(uri))
	case !slices.Contains(Schemes(), u.Scheme):
		return failure.Field(field, "is %q: its scheme must be one of %s", Short(uri), strings.Join(Schemes(), ", "))
	case u.User != nil:
		return failure.Field(field, "holds a user or a password, which everybody who may list applications would see")
	case !ValidHost(u.Hostname()):
		return failure.Field(field, "is %q, whose host is no name and no address", Short(uri))
	}
	if port := u.Port(); port != "" || u.Scheme == "tcp" || strings.HasSuffix(u.Host, ":") {
		if _, err := ParsePort(port); err != nil {
			return failure.Field(field, "is %q, whose port %v", Short(uri), err)
		}
	}
	if u.Scheme == "tcp" && (u.Path != "" || u.RawQuery != "") {
		return failure.Field(field, "is %q, and a TCP application has no path", Short(uri))
	}
	return nil
}

// Schemes are what an application's URI may begin with.
func Schemes() []string { return []string{"http", "https", "tcp"} }

// Short cuts a text that is shown in an error.
func Short(text string) string {
	const most = 80
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most]) + "…"
}
