package docker

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

// labelPrefix is what the labels of ours on containers begin with.
const labelPrefix = "rollcall."

// The labels of ours, without the prefix.
const (
	labelEnable     = "enable"
	labelName       = "name"
	labelPort       = "port"
	labelPath       = "path"
	labelScheme     = "scheme"
	labelPublicAddr = "public-addr"
	labelNetwork    = "network"
	labelKeep       = "keep"
	labelLabels     = "labels"
)

// Bounds of what containers say.
const (
	maxEndpoints = 16
	maxIndex     = 99
	maxPath      = 512
	maxIdentity  = 200
)

// allowable are what allow_labels may list. `enable` isn't among them: it's
// always heard, since `select` says what it does.
func allowable() []string {
	return []string{labelName, labelPort, labelPath, labelScheme, labelPublicAddr, labelNetwork, labelKeep, labelLabels}
}

// request is what a container's labels ask for one resource.
type request struct {
	// index is N of rollcall.N.*; -1 without.
	index      int
	enable     string
	name       string
	port       int
	path       string
	scheme     string
	publicAddr string
	network    string
	keep       bool
	labels     map[string]string
	// ignored says which labels were heard and not followed, and why.
	ignored []string
	// errs are values that can't be used.
	errs []error
}

// requests reads a container's labels: one request for each index, or one
// without. Labels without an index hold for all.
func requests(labels map[string]string, allow []string) []request {
	base := request{index: -1}
	byIndex := map[int]*request{}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		rest, ours := strings.CutPrefix(key, labelPrefix)
		if !ours {
			continue
		}
		if _, _, indexed := cutIndex(rest); !indexed {
			base.take(key, rest, labels[key], allow)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		rest, ours := strings.CutPrefix(key, labelPrefix)
		index, name, indexed := cutIndex(rest)
		if !ours || !indexed {
			continue
		}
		if !permitted(name, allow) {
			base.ignore(key, "isn't in allow_labels")
			continue
		}
		if byIndex[index] == nil {
			if len(byIndex) == maxEndpoints {
				base.ignore(key, fmt.Sprintf("is one more than the %d resources that a container may ask for", maxEndpoints))
				continue
			}
			byIndex[index] = &request{index: index}
		}
		byIndex[index].take(key, name, labels[key], allow)
	}
	if len(byIndex) == 0 {
		return []request{base}
	}
	all := make([]request, 0, len(byIndex))
	for _, index := range slices.Sorted(maps.Keys(byIndex)) {
		all = append(all, byIndex[index].over(base))
	}
	return all
}

// cutIndex cuts "N." off a label: "0.port" is 0 and "port".
func cutIndex(rest string) (int, string, bool) {
	number, name, found := strings.Cut(rest, ".")
	index, err := strconv.Atoi(number)
	if !found || err != nil || index < 0 || index > maxIndex || strconv.Itoa(index) != number {
		return 0, "", false
	}
	return index, name, true
}

// over returns the request with what it leaves open taken from base.
func (r request) over(base request) request {
	out := r
	out.enable = cmp.Or(r.enable, base.enable)
	out.port = cmp.Or(r.port, base.port)
	out.path = cmp.Or(r.path, base.path)
	out.scheme = cmp.Or(r.scheme, base.scheme)
	out.network = cmp.Or(r.network, base.network)
	out.keep = r.keep || base.keep
	// Names are unique, so the container's own is no default here.
	if r.name == "" && base.name != "" {
		out.name = fmt.Sprintf("%s-%d", base.name, r.index)
	}
	out.labels = maps.Clone(base.labels)
	for key, value := range r.labels {
		if out.labels == nil {
			out.labels = map[string]string{}
		}
		out.labels[key] = value
	}
	out.ignored = slices.Concat(base.ignored, r.ignored)
	out.errs = slices.Concat(base.errs, r.errs)
	return out
}

// permitted says if a container may set a label.
func permitted(name string, allow []string) bool {
	if name == labelEnable || slices.Contains(allow, name) {
		return true
	}
	return strings.HasPrefix(name, labelLabels+".") && slices.Contains(allow, labelLabels)
}

func (r *request) ignore(key, why string) {
	r.ignored = append(r.ignored, resource.Short(key)+" "+why)
}

func (r *request) fail(key, format string, args ...any) {
	r.errs = append(r.errs, failure.New(failure.Configuration, "the label %s %s", resource.Short(key), fmt.Sprintf(format, args...)))
}

// take reads one label: key is the whole, name what is behind the prefix.
func (r *request) take(key, name, value string, allow []string) {
	label, isLabel := strings.CutPrefix(name, labelLabels+".")
	switch {
	case !isLabel && name != labelEnable && (!slices.Contains(allowable(), name) || name == labelLabels):
		r.ignore(key, "is no label that there is")
	case !permitted(name, allow):
		r.ignore(key, "isn't in allow_labels")
	case isLabel:
		r.takeLabel(key, label, value)
	default:
		r.takeValue(key, name, value)
	}
}

func (r *request) takeLabel(key, label, value string) {
	if resource.ReservedLabel(label) {
		r.ignore(key, "sets a label that is reserved")
		return
	}
	if err := resource.CheckLabelKey("", label); err != nil {
		r.fail(key, "gives no key that a label can have")
		return
	}
	if err := resource.CheckText("", value, resource.MaxLabelValue); err != nil {
		r.fail(key, "is too long or holds control characters")
		return
	}
	if r.labels == nil {
		r.labels = map[string]string{}
	}
	r.labels[label] = value
}

func (r *request) takeValue(key, name, value string) {
	shown := resource.Short(value)
	switch name {
	case labelEnable:
		r.takeTruth(key, value, func(yes bool) { r.enable = strconv.FormatBool(yes) })
	case labelKeep:
		r.takeTruth(key, value, func(yes bool) { r.keep = yes })
	case labelName:
		if r.name = value; !validWord(value) {
			r.fail(key, "is %q, and must be at most %d letters, digits, and . _ -", shown, resource.MaxName)
		}
	case labelPort:
		port, err := resource.ParsePort(value)
		if r.port = port; err != nil {
			r.fail(key, "%v", err)
		}
	case labelPath:
		cleaned, ok := cleanPath(value)
		if r.path = cleaned; !ok {
			r.fail(key, "is %q, and must be a path such as /admin/, of letters, digits and / . _ ~ -", shown)
		}
	case labelScheme:
		if r.scheme = value; !slices.Contains(resource.Schemes(), value) {
			r.fail(key, "is %q, and must be one of %s", shown, strings.Join(resource.Schemes(), ", "))
		}
	case labelPublicAddr:
		r.publicAddr = strings.ToLower(value)
		if _, err := netip.ParseAddr(value); err == nil || !resource.ValidHost(value) {
			r.fail(key, "is %q, and must be a host name, without scheme and port", shown)
		}
	case labelNetwork:
		if r.network = value; !validNetwork(value) {
			r.fail(key, "is %q, which is no name of a network", shown)
		}
	}
}

func (r *request) takeTruth(key, value string, set func(bool)) {
	switch strings.ToLower(value) {
	case "true", "yes", "on", "1":
		set(true)
	case "false", "no", "off", "0":
		set(false)
	default:
		r.fail(key, "is %q, and must be true or false", resource.Short(value))
	}
}

// validWord wants a name as Docker has them, of the length of a DNS label.
func validWord(text string) bool {
	for i, r := range text {
		alphanumeric := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !alphanumeric && (i == 0 || !strings.ContainsRune("_.-", r)) {
			return false
		}
	}
	return text != "" && len(text) <= resource.MaxName
}

var plainPath = regexp.MustCompile(`^/[a-zA-Z0-9/._~-]*$`)

// cleanPath returns a path without dots and double slashes. What has a meaning
// in a URI (? # % @ :) isn't possible.
func cleanPath(text string) (string, bool) {
	if len(text) > maxPath || !plainPath.MatchString(text) {
		return "", false
	}
	cleaned := path.Clean(text)
	if strings.HasSuffix(text, "/") && cleaned != "/" {
		cleaned += "/"
	}
	return cleaned, true
}
