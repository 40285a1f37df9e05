package systemd

import (
	"path/filepath"
	"slices"
	"strings"

	"rollcall/failure"
)

// UnitTypes are those that can be reloaded or restarted with some sense.
func UnitTypes() []string {
	return []string{".service", ".socket", ".target", ".timer", ".path", ".mount"}
}

// ValidUnitName says whether it's the whole name of a unit of one of UnitTypes,
// of systemd's own alphabet alone.
func ValidUnitName(name string) bool {
	return len(name) <= 255 && matches(`^[A-Za-z0-9:_.@\\-]+\.[a-z]+$`, name) && slices.Contains(UnitTypes(), filepath.Ext(name))
}

func (o UnitOptions) validateAllowed() error {
	allowed := slices.Concat(o.AllowReload, o.AllowRestart)
	for _, unit := range allowed {
		if !ValidUnitName(unit) {
			return failure.New(failure.Configuration, "%q can't be allowed: write a unit's whole name, such as nginx.service", unit)
		}
	}
	if len(allowed) > 0 && matches(`^[0-9]`, o.User) {
		return failure.New(failure.Configuration, "polkit knows users by their names: give the name of user %s, so that it may reload or restart units", o.User)
	}
	return nil
}

// RulePath is where polkit looks for Rule.
func (o UnitOptions) RulePath() string {
	return "/etc/polkit-1/rules.d/50-rollcall-" + o.Name + ".rules"
}

// Rule returns a rule file for polkit, by which the agent's user may have
// systemd do what AllowReload and AllowRestart say; empty: they say nothing.
// Call Validate first: nothing in a name could end a string of JavaScript then,
// but for the backslash.
func (o UnitOptions) Rule() string {
	cases := ruleCases("reload", o.AllowReload)
	for _, verb := range restartVerbs() {
		cases = append(cases, ruleCases(verb, o.AllowRestart)...)
	}
	if len(cases) == 0 {
		return ""
	}
	return `// Written by "rollcall install systemd". It lets the agent's user have these
// units reloaded or restarted, and nothing else.
polkit.addRule(function (action, subject) {
    if (action.id !== "org.freedesktop.systemd1.manage-units" || subject.user !== "` + o.User + `") {
        return polkit.Result.NOT_HANDLED;
    }
    switch (action.lookup("verb") + " " + action.lookup("unit")) {
` + strings.Join(cases, "") + `        return polkit.Result.YES;
    }
    return polkit.Result.NOT_HANDLED;
});
`
}

// restartVerbs are what a hook's restart is called: of a unit that runs, and of
// one that has failed, which a try leaves alone.
func restartVerbs() []string { return []string{"try-restart", "restart"} }

// ruleCases are sorted and without doubles, so that the same flags in another
// order make the same file.
func ruleCases(verb string, units []string) []string {
	var cases []string
	for _, unit := range slices.Compact(slices.Sorted(slices.Values(units))) {
		cases = append(cases, `    case "`+verb+" "+strings.ReplaceAll(unit, `\`, `\\`)+"\":\n")
	}
	return cases
}
