package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"rollcall/config"
	"rollcall/systemd"
)

// polkitService is there wherever polkit is: D-Bus starts it by this file.
const polkitService = "/usr/share/dbus-1/system-services/org.freedesktop.PolicyKit1.service"

// findPolkit looks if polkit is there. Without it a rule would have no reader, and
// hooks ask in another way.
func (i *installation) findPolkit() {
	_, err := os.Stat(filepath.Join("/", i.root, polkitService))
	i.polkit = err == nil
	if i.polkit || i.unit.Rule() == "" {
		return
	}
	i.notes = append(i.notes, "polkit isn't installed, so that the hooks reload_unit and restart_unit can't work for an agent that isn't root. "+
		"Either install it (Debian's package polkitd) and run this again, or let hooks touch a file that a .path unit watches:")
	for _, t := range i.unit.Triggers() {
		i.notes = append(i.notes, fmt.Sprintf("in place of %s_unit: %s write exec: [/usr/bin/touch, %q], which %s watches", t.Verb, t.Unit, t.Touch, t.PathUnit))
	}
}

// permits are the files by which the agent has units reloaded and restarted.
func (i *installation) permits() []systemd.File {
	if rule := i.unit.Rule(); i.polkit && rule != "" {
		return []systemd.File{{Path: i.unit.RulePath(), Text: rule}}
	}
	var files []systemd.File
	for _, t := range i.unit.Triggers() {
		files = append(files, t.Files...)
	}
	return files
}

// pathUnits are the units to enable beside the agent's.
func (i *installation) pathUnits() []string {
	var names []string
	if !i.polkit {
		for _, t := range i.unit.Triggers() {
			names = append(names, t.PathUnit)
		}
	}
	return names
}

// noteHooks names the flags that the configuration's hooks need, all at once:
// there is one rule file. It's content with a file that an earlier run wrote.
func (i *installation) noteHooks(cfg *config.Config) {
	if i.unit.User == "root" || i.unit.User == "0" {
		return
	}
	needed := i.unit
	var flags []string
	add := func(units *[]string, flag, unit string) {
		before := needed.Rule()
		*units = append(append([]string(nil), *units...), unit)
		if needed.Rule() != before {
			flags = append(flags, flag+" "+unit)
		}
	}
	for _, out := range cfg.Outputs {
		if out.Common == nil {
			continue
		}
		for _, hook := range out.Common.OnRenewal {
			switch {
			case hook.ReloadUnit != "":
				add(&needed.AllowReload, "--allow-reload", hook.ReloadUnit)
			case hook.RestartUnit != "":
				add(&needed.AllowRestart, "--allow-restart", hook.RestartUnit)
			}
		}
	}
	if len(flags) == 0 {
		return
	}
	present, err := os.ReadFile(filepath.Join("/", i.root, needed.RulePath()))
	if err == nil && string(present) == needed.Rule() {
		return
	}
	i.notes = append(i.notes, fmt.Sprintf("the hooks fail until the user %s may have systemd do what they ask for: add %s.", i.unit.User, strings.Join(flags, " ")))
}
