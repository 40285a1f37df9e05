package version

import (
	"encoding/json"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	aCommit = "0123456789abcdef0123456789abcdef01234567"
	aDate   = "2026-02-03T04:05:06Z"
)

func TestDescribe(t *testing.T) {
	here := runtime.GOOS + "/" + runtime.GOARCH
	vcs := []debug.BuildSetting{
		{Key: "vcs.revision", Value: aCommit},
		{Key: "vcs.time", Value: aDate},
		{Key: "vcs.modified", Value: "true"},
	}
	tests := []struct {
		name   string
		build  debug.BuildInfo
		linked stamp
		want   Info
	}{
		{
			name: "nothing known",
			want: Info{Version: "devel"},
		},
		{
			name:  "the toolchain's stamp",
			build: debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs},
			want:  Info{Version: "devel", Commit: aCommit, Date: aDate, Modified: true},
		},
		{
			name:   "the linker wins",
			build:  debug.BuildInfo{Main: debug.Module{Version: "v1.0.0"}, Settings: vcs[:2]},
			linked: stamp{version: "v1.2.3", commit: "feed", date: "2026-01-01T00:00:00Z"},
			want:   Info{Version: "v1.2.3", Commit: "feed", Date: "2026-01-01T00:00:00Z"},
		},
		{
			name:   "a dirty tree",
			linked: stamp{version: "v1.2.3-4-gfeed-dirty"},
			want:   Info{Version: "v1.2.3-4-gfeed-dirty", Modified: true},
		},
		{
			name:  "an installed release",
			build: debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}},
			want:  Info{Version: "v1.2.3"},
		},
		{
			name:  "a pseudo-version isn't a release",
			build: debug.BuildInfo{Main: debug.Module{Version: "v0.0.0-20260203040506-0123456789ab"}},
			want:  Info{Version: "devel"},
		},
		{
			name: "the client library",
			build: debug.BuildInfo{Deps: []*debug.Module{
				{Path: "example.com/other", Version: "v9.9.9"},
				{Path: apiModule, Version: "v18.0.0"},
			}},
			want: Info{Version: "devel", TeleportAPI: "v18.0.0"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Go = runtime.Version()
			tt.want.Platform = here
			require.Equal(t, tt.want, describe(&tt.build, tt.linked))
		})
	}
}

func TestString(t *testing.T) {
	tests := []struct {
		name string
		info Info
		want string
	}{
		{
			name: "everything known",
			info: Info{
				Version: "v1.2.3", Commit: aCommit, Date: aDate,
				Go: "go1.26.0", Platform: "linux/amd64", TeleportAPI: "v18.0.0",
			},
			want: "rollcall v1.2.3 (commit 0123456789ab, 2026-02-03T04:05:06Z, go1.26.0, linux/amd64, teleport/api v18.0.0)",
		},
		{
			name: "a short commit",
			info: Info{Version: "devel", Commit: "feed", Go: "go1.26.0", Platform: "linux/arm64"},
			want: "rollcall devel (commit feed, go1.26.0, linux/arm64)",
		},
		{
			name: "nothing known",
			info: Info{Version: "devel", Go: "go1.26.0", Platform: "linux/arm64"},
			want: "rollcall devel (go1.26.0, linux/arm64)",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, tt.info.String())
		})
	}
}

func TestJSON(t *testing.T) {
	want := Info{Version: "v1.2.3", Commit: aCommit, Date: aDate, Go: "go1.26.0", Platform: "linux/amd64"}
	text, err := want.JSON()
	require.NoError(t, err)

	var got Info
	require.NoError(t, json.Unmarshal(text, &got))
	require.Equal(t, want, got)
	require.NotContains(t, string(text), "teleport_api", "what isn't known is left out")
}

// A test binary has neither a release nor a stamp, so this is what everybody
// sees who builds without the Makefile.
func TestVersionOfAPlainBuild(t *testing.T) {
	require.Equal(t, Development, Version())
}
