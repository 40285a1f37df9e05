package hooks

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Notes says what the hook needs that a file can't show to be there: the rights
// of the process that will run it. `rollcall validate` prints them.
func (o *Options) Notes() []string {
	var notes []string
	switch {
	case o.User != "":
		notes = append(notes, "runs inside the agent's unit and its sandbox; "+userNeeds(o.User), rootNeeds)
	case o.Signal != "":
		notes = append(notes, signalNeeds(o.PIDFile != ""))
	case o.ReloadUnit != "":
		notes = append(notes, unitNeeds("reload", o.ReloadUnit))
	case o.RestartUnit != "":
		notes = append(notes, unitNeeds("restart", o.RestartUnit))
	default:
		notes = append(notes, "runs as the agent's user, inside its unit's sandbox: it can write only where the unit's ReadWritePaths= say", rootNeeds)
	}
	return notes
}

// rootNeeds is what an agent checks before each run if it's root.
const rootNeeds = "an agent that runs as root refuses a program that others could change: it and each directory on the way must belong to root (or to `user`), and nobody else may write there"

func userNeeds(user string) string {
	return "running as " + user + " needs an agent with CAP_SETUID, CAP_SETGID and, to end it at its timeout, CAP_KILL. Under systemd that takes a drop-in: " +
		"[Service] AmbientCapabilities=CAP_SETUID CAP_SETGID CAP_KILL, CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_KILL, SystemCallFilter=@setuid"
}

// signalNeeds says what a signal takes. One by pid_file looks at the process,
// which the unit's ProtectProc=invisible hides if it's another user's.
func signalNeeds(byFile bool) string {
	needs := "reaches processes of the agent's own user; another user's needs CAP_KILL. Under systemd that takes a drop-in: " +
		"[Service] AmbientCapabilities=CAP_KILL, CapabilityBoundingSet=CAP_KILL"
	if byFile {
		needs += ", ProtectProc=default"
	}
	return needs
}

func unitNeeds(verb, unit string) string {
	return "an agent that isn't root needs a polkit rule to " + verb + " " + unit +
		": `rollcall install systemd --allow-" + verb + " " + unit + " --write` writes one that allows this alone"
}

// capable says whether this process has all of these capabilities in effect.
func capable(capabilities ...int) bool {
	file, err := os.Open("/proc/self/status")
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if text, found := strings.CutPrefix(lines.Text(), "CapEff:"); found {
			return hasAll(strings.TrimSpace(text), capabilities)
		}
	}
	return false
}

// hasAll looks for capabilities in a set as /proc shows it, in hexadecimal.
func hasAll(set string, capabilities []int) bool {
	bits, err := strconv.ParseUint(set, 16, 64)
	if err != nil {
		return false
	}
	for _, c := range capabilities {
		if bits&(1<<c) == 0 {
			return false
		}
	}
	return true
}

// mayChangeUser says whether this process may run programs as somebody else,
// and end them.
func mayChangeUser() bool { return capable(unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_KILL) }
