package cluster

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

// ErrHidden is in the chain of an error about a resource that is registered, and
// that the identity's roles don't let it see.
var ErrHidden = errors.New("the roles' labels don't match the resource")

// missingRule is how servers name a rule that isn't there (lib/services/role.go
// of Teleport 14 to 18).
var missingRule = regexp.MustCompile(`access denied to perform action "([a-z_]+)" on "([a-z_]+)"`)

// labelsField is the field of a role that limits a kind by labels.
func labelsField(kind string) string {
	switch kind {
	case types.KindApp, types.KindAppServer:
		return "app_labels"
	case types.KindDatabase:
		return "db_labels"
	case types.KindKubernetesCluster:
		return "kubernetes_labels"
	case types.KindWindowsDesktop:
		return "windows_desktop_labels"
	default:
		return ""
	}
}

// explain is translate for calls that need rules and labels of a role: it says
// which of them is missing, as far as the server lets us know.
func explain(what intent, roles []string, err error) error {
	if what.kind != "" && trace.IsNotFound(err) {
		// Translated, a missing token would be one that somebody joins with.
		return failure.Wrap(failure.NotFound, err, "%s: there's none", what.op)
	}
	if err == nil || !trace.IsAccessDenied(err) {
		return translate(what.op, err)
	}
	text := err.Error()
	if found := missingRule.FindAllStringSubmatch(text, -1); found != nil {
		return failure.Wrap(failure.Refused, err,
			"%s: %s the rule %s: add it to spec.allow.rules (`rollcall discovery roles` prints a role that suffices)",
			what.op, lacking(roles), ruleText(found))
	}
	field := labelsField(what.kind)
	if field != "" && strings.Contains(text, "access to ") && strings.Contains(text, " denied") {
		if what.lookup {
			return failure.Wrap(failure.Refused, errors.Join(ErrHidden, err),
				"%s: it's registered, but %s a spec.allow.%s that matches its labels, or has a spec.deny that does: so it may not be seen, changed or deleted",
				what.op, lacking(roles), field)
		}
		return failure.Wrap(failure.Refused, err,
			"%s: %s a spec.allow.%s that matches the resource's labels%s, or has a spec.deny that does",
			what.op, lacking(roles), field, labelText(what.labels))
	}
	return translate(what.op, err)
}

// lacking begins the sentence of what the roles don't have.
func lacking(roles []string) string {
	switch len(roles) {
	case 0:
		return "the identity's roles lack"
	case 1:
		return "the role " + roles[0] + " lacks"
	default:
		return "the roles " + strings.Join(roles, ", ") + " lack"
	}
}

// ruleText is a rule as it would stand in a role; found are missingRule's matches.
func ruleText(found [][]string) string {
	var verbs, kinds []string
	for _, match := range found {
		if !slices.Contains(verbs, match[1]) {
			verbs = append(verbs, match[1])
		}
		if !slices.Contains(kinds, match[2]) {
			kinds = append(kinds, match[2])
		}
	}
	return fmt.Sprintf("{resources: [%s], verbs: [%s]}", strings.Join(kinds, ", "), strings.Join(verbs, ", "))
}

// labelText is labels as they stand in a role.
func labelText(labels map[string]string) string {
	if len(labels) == 0 {
		return ""
	}
	var pairs []string
	for key, value := range labels {
		pairs = append(pairs, key+": "+value)
	}
	slices.Sort(pairs)
	return " {" + strings.Join(pairs, ", ") + "}"
}
