// Package version knows which build this is. It knows it from the linker (a
// release build, see the Makefile) or from what the Go toolchain stamped into
// the binary; it never asks git, the network or the clock.
package version

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// Development is the version of a build that nobody gave a version to.
const Development = "devel"

// apiModule is the Teleport client library; which servers accept the agent
// depends on its version.
const apiModule = "github.com/gravitational/teleport/api"

// The linker sets these with -X; nothing else writes them.
var (
	// version is `git describe --tags --always --dirty`.
	version string
	// commit is the full hash of the commit.
	commit string
	// date is the commit's time in RFC 3339, not the build's: two builds of
	// one commit are the same bytes.
	date string
)

// Info describes a build.
type Info struct {
	// Version is the release, or "devel".
	Version string `json:"version"`
	// Commit is the full hash of the commit; empty: unknown.
	Commit string `json:"commit,omitempty"`
	// Date is the commit's time in RFC 3339; empty: unknown.
	Date string `json:"date,omitempty"`
	// Modified says that the tree held changes that the commit doesn't.
	Modified bool `json:"modified,omitempty"`
	// Go is the toolchain that built the binary.
	Go string `json:"go"`
	// Platform is the operating system and architecture: "linux/amd64".
	Platform string `json:"platform"`
	// TeleportAPI is the version of the Teleport client library; empty:
	// unknown, as in a test binary.
	TeleportAPI string `json:"teleport_api,omitempty"`
}

// Version returns the release, or "devel".
func Version() string {
	return Read().Version
}

// Read returns what is known of the running binary.
func Read() Info {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		build = &debug.BuildInfo{}
	}
	return describe(build, stamp{version: version, commit: commit, date: date})
}

// String returns the one line that `rollcall version` prints.
func (i Info) String() string {
	var about []string
	if i.Commit != "" {
		about = append(about, "commit "+short(i.Commit))
	}
	if i.Date != "" {
		about = append(about, i.Date)
	}
	about = append(about, i.Go, i.Platform)
	if i.TeleportAPI != "" {
		about = append(about, "teleport/api "+i.TeleportAPI)
	}
	return fmt.Sprintf("rollcall %s (%s)", i.Version, strings.Join(about, ", "))
}

// JSON returns the indented form that `rollcall version --format json` prints.
func (i Info) JSON() ([]byte, error) {
	return json.MarshalIndent(i, "", "  ")
}

// stamp is what the linker set.
type stamp struct {
	version, commit, date string
}

// describe puts together what the toolchain and the linker stamped; the linker
// wins.
func describe(build *debug.BuildInfo, linked stamp) Info {
	info := Info{
		Version:  Development,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	for _, setting := range build.Settings {
		switch setting.Key {
		case "vcs.revision":
			info.Commit = setting.Value
		case "vcs.time":
			info.Date = setting.Value
		case "vcs.modified":
			info.Modified = setting.Value == "true"
		}
	}
	for _, module := range build.Deps {
		if module.Path == apiModule {
			info.TeleportAPI = module.Version
		}
	}
	// `go install rollcall@v1.2.3` leaves the module's version; "(devel)" and
	// pseudo-versions say less than the commit does.
	if released(build.Main.Version) {
		info.Version = build.Main.Version
	}
	if linked.version != "" {
		info.Version = linked.version
		info.Modified = info.Modified || strings.HasSuffix(linked.version, "-dirty")
	}
	if linked.commit != "" {
		info.Commit = linked.commit
	}
	if linked.date != "" {
		info.Date = linked.date
	}
	return info
}

// released says if a module version is one that somebody tagged.
func released(v string) bool {
	return strings.HasPrefix(v, "v") && !strings.Contains(v, "-0.") && !strings.HasPrefix(v, "v0.0.0-")
}

// short returns a commit's first twelve digits.
func short(hash string) string {
	return hash[:min(len(hash), 12)]
}
