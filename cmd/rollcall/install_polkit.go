package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"rollcall/config"
)

// polkitService is there wherever polkit is: D-Bus starts it by this file.
const polkitService = "/usr/share/dbus-1/system-services/org.freedesktop.PolicyKit1.service"

// notePolkit tells that the rule would have no reader.
func (i *installation) notePolkit() {
	if i.unit.Rule() == "" {
		return
	}
	if _, err := os.Stat(filepath.Join("/", i.root, polkitService)); err != nil {
		i.notes = append(i.notes, "polkit isn't installed, and without it the rule does nothing: install it (Debian's package polkitd). "+
			"How a hook can do without it is in docs/hooks.md, under \"Without polkit\".")
	}
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
