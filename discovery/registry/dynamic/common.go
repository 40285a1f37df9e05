package dynamic

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/discovery/resource"
)

// specOf returns r's spec as the type that its kind has.
func specOf[S resource.Spec](r resource.Resource) (S, error) {
	spec, ok := r.Spec.(S)
	if !ok {
		return spec, trace.BadParameter("its spec isn't one of the kind %s", spec.Kind())
	}
	return spec, nil
}

// readMetadata returns what all kinds have in common. The label that says how a
// resource came to be is the server's own.
func readMetadata(kind resource.Kind, m types.Metadata, spec resource.Spec) resource.Resource {
	r := resource.Resource{Kind: kind, Name: m.Name, Description: m.Description, Spec: spec}
	for key, value := range m.Labels {
		if key == types.OriginLabel {
			continue
		}
		if r.Labels == nil {
			r.Labels = make(map[string]string, len(m.Labels))
		}
		r.Labels[key] = value
	}
	if m.Expires != nil && !m.Expires.IsZero() {
		r.Expires = m.Expires.UTC()
	}
	return r
}

// writeMetadata writes what all kinds have in common. Teleport's own labels stay.
func writeMetadata(m *types.Metadata, r resource.Resource) {
	labels := maps.Clone(r.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	delete(labels, types.OriginLabel)
	for key, value := range m.Labels {
		if _, set := labels[key]; !set && strings.HasPrefix(key, resource.TeleportLabelPrefix) {
			labels[key] = value
		}
	}
	m.Name, m.Description, m.Labels, m.Expires = r.Name, r.Description, labels, nil
	if !r.Expires.IsZero() {
		expires := r.Expires.UTC()
		m.Expires = &expires
	}
}

// readDynamicLabels leaves out the commands' results, which aren't anybody's wish.
func readDynamicLabels(labels map[string]types.CommandLabelV2) map[string]resource.DynamicLabel {
	if len(labels) == 0 {
		return nil
	}
	read := make(map[string]resource.DynamicLabel, len(labels))
	for key, label := range labels {
		read[key] = resource.DynamicLabel{Period: time.Duration(label.Period), Command: slices.Clone(label.Command)}
	}
	return read
}

func writeDynamicLabels(labels map[string]resource.DynamicLabel) (map[string]types.CommandLabelV2, error) {
	if len(labels) == 0 {
		return nil, nil
	}
	written := make(map[string]types.CommandLabelV2, len(labels))
	for key, label := range labels {
		switch {
		case len(label.Command) == 0 || label.Command[0] == "":
			return nil, trace.BadParameter("dynamic_labels.%s has no command", key)
		case label.Period < time.Second:
			return nil, trace.BadParameter("dynamic_labels.%s: a period must be at least 1s", key)
		}
		written[key] = types.CommandLabelV2{Period: types.Duration(label.Period), Command: slices.Clone(label.Command)}
	}
	return written, nil
}

// collapse leaves one resource a name. Ours goes before others', which don't
// disturb it (Windows desktops of one name differ in their host ID). Several of
// ours are what an interrupted move has left: they're shown as one at both
// places, which is a difference to whatever is wanted, and so they're cleared up.
func collapse(all []resource.Resource, owner string) []resource.Resource {
	at := make(map[string]int, len(all))
	kept := make([]resource.Resource, 0, len(all))
	for _, r := range all {
		i, there := at[r.Name]
		switch {
		case !there:
			at[r.Name] = len(kept)
			kept = append(kept, r)
		case r.Owner() == owner && kept[i].Owner() == owner:
			kept[i] = both(kept[i], r)
		case r.Owner() == owner:
			kept[i] = r
		}
	}
	return kept
}

// both shows two desktops of ours as one.
func both(a, b resource.Resource) resource.Resource {
	left, isLeft := a.Spec.(resource.WindowsDesktopSpec)
	right, isRight := b.Spec.(resource.WindowsDesktopSpec)
	if isLeft && isRight {
		left.HostID += "," + right.HostID
		a.Spec = left
	}
	return a
}
