package systemd

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// File is a text and where it belongs.
type File struct{ Path, Text string }

// Trigger stands in for one line of the polkit rule where there is no polkit: the
// agent touches a file, and systemd, which watches it, does the one thing.
type Trigger struct {
	// Touch is the file, in the agent's runtime directory.
	Touch string
	// Verb and Unit are what is done to whom.
	Verb, Unit string
	// PathUnit is the name of the unit to enable.
	PathUnit string
	// Files are the two units.
	Files []File
}

// Triggers are what AllowReload and AllowRestart ask for, sorted and without
// doubles. Call Validate first.
func (o UnitOptions) Triggers() []Trigger {
	var all []Trigger
	for _, verb := range []struct {
		name  string
		units []string
	}{{"reload", o.AllowReload}, {"restart", o.AllowRestart}} {
		for _, unit := range slices.Compact(slices.Sorted(slices.Values(verb.units))) {
			all = append(all, o.trigger(verb.name, unit))
		}
	}
	return all
}

func (o UnitOptions) trigger(verb, unit string) Trigger {
	base := fmt.Sprintf("%s-%s-%s", o.Name, verb, strings.TrimSuffix(unit, ".service"))
	t := Trigger{
		Touch: filepath.Join(o.runtimeDirectory(), verb+"-"+unit), Verb: verb, Unit: unit, PathUnit: base + ".path",
	}
	// A unit that is stopped is left alone: it reads the new files when it starts.
	job := "ExecStart=/usr/bin/systemctl try-restart -- " + argument(unit)
	if verb == "reload" {
		job = "ExecCondition=/usr/bin/systemctl --quiet is-active -- " + argument(unit) + "\nExecStart=/usr/bin/systemctl reload -- " + argument(unit)
	}
	// The wish is a file that is there, not one that changed: a wish that comes
	// while the job runs is seen when it ends, and a runtime directory that goes is
	// none. It's taken away first, whatever becomes of the job.
	job = "ExecCondition=/usr/bin/rm -f -- " + argument(t.Touch) + "\n" + job
	at := func(name string) string { return "/etc/systemd/system/" + name }
	t.Files = []File{
		{at(t.PathUnit), fmt.Sprintf(`# Written by "rollcall install systemd", for a host without polkit.
[Unit]
Description=Watch for rollcall's wish to %s %s

[Path]
PathExists=%s

[Install]
WantedBy=multi-user.target
`, verb, specifiers(unit), specifiers(t.Touch))},
		{at(base + ".service"), fmt.Sprintf(`# Written by "rollcall install systemd", for a host without polkit.
[Unit]
Description=%s %s for rollcall
# However often it's asked for.
StartLimitIntervalSec=0

[Service]
Type=oneshot
%s
`, strings.ToUpper(verb[:1])+verb[1:], specifiers(unit), job)},
	}
	return t
}

// specifiers escapes what systemd would expand in a setting that isn't divided
// into words.
func specifiers(text string) string { return strings.ReplaceAll(text, "%", "%%") }
