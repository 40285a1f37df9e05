package resource

import (
	"maps"
	"slices"
	"strings"
)

// Equal says whether two resources are the same in all that we set: kind, name,
// description, labels and spec. Labels that Teleport sets itself don't count,
// nor does Expires, which is compared only where resources are leased.
func Equal(a, b Resource) bool {
	return a.Kind == b.Kind && a.Name == b.Name && a.Description == b.Description &&
		EqualLabels(a.Labels, b.Labels) && EqualSpec(a.Spec, b.Spec)
}

// EqualLabels compares labels, except for those that Teleport sets itself.
func EqualLabels(a, b map[string]string) bool {
	counted := 0
	for key, value := range a {
		if strings.HasPrefix(key, TeleportLabelPrefix) {
			continue
		}
		if other, ok := b[key]; !ok || other != value {
			return false
		}
		counted++
	}
	if counted == len(b) {
		return true
	}
	for key := range b {
		if strings.HasPrefix(key, TeleportLabelPrefix) {
			counted++
		}
	}
	return counted == len(b)
}

// EqualSpec compares what two resources point to. It's called for every
// resource in every comparison, so it neither allocates nor reflects.
func EqualSpec(a, b Spec) bool {
	switch a := a.(type) {
	case AppSpec:
		b, ok := b.(AppSpec)
		return ok && a.URI == b.URI && a.PublicAddr == b.PublicAddr && a.InsecureSkipVerify == b.InsecureSkipVerify &&
			equalRewrites(a.Rewrite, b.Rewrite) && equalDynamic(a.DynamicLabels, b.DynamicLabels)
	case DatabaseSpec:
		b, ok := b.(DatabaseSpec)
		return ok && a.Protocol == b.Protocol && a.URI == b.URI && a.CACert == b.CACert &&
			a.tlsMode() == b.tlsMode() && a.ServerName == b.ServerName && equalDynamic(a.DynamicLabels, b.DynamicLabels)
	case KubeClusterSpec:
		b, ok := b.(KubeClusterSpec)
		return ok && a.Kubeconfig == b.Kubeconfig && equalDynamic(a.DynamicLabels, b.DynamicLabels)
	case WindowsDesktopSpec:
		b, ok := b.(WindowsDesktopSpec)
		return ok && a == b
	default:
		return a == nil && b == nil
	}
}

// tlsMode returns the mode with its default.
func (s DatabaseSpec) tlsMode() string {
	if s.TLSMode == "" {
		return "verify-full"
	}
	return s.TLSMode
}

// equalRewrites takes a rewrite that changes nothing for none.
func equalRewrites(a, b *Rewrite) bool {
	if a == b {
		return true
	}
	var none Rewrite
	if a == nil {
		a = &none
	}
	if b == nil {
		b = &none
	}
	return slices.Equal(a.Headers, b.Headers) && slices.Equal(a.Redirect, b.Redirect)
}

func equalDynamic(a, b map[string]DynamicLabel) bool {
	return maps.EqualFunc(a, b, func(a, b DynamicLabel) bool {
		return a.Period == b.Period && slices.Equal(a.Command, b.Command)
	})
}
