package main

import (
	"path/filepath"

	"github.com/gravitational/teleport/tool/tctl/common"
)

// tctlName is the name under which this program is the official `tctl` of the
// cluster's version: nearly all of it is linked here anyway.
const tctlName = "tctl"

// isTctl says whether the program was called by that name.
func isTctl(name string) bool { return filepath.Base(name) == tctlName }

// tctl does what the official main does, with this process's arguments, and ends
// the process if that fails.
func tctl() {
	common.Run(append(common.Commands(), common.OSSCommands()...))
}
