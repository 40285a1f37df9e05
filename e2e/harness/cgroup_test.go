package harness

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSystemdCgroups(t *testing.T) {
	const hybrid = `24 23 0:21 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
25 24 0:22 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 24 0:30 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
34 24 0:31 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup rw
`
	for name, test := range map[string]struct {
		own, mounts string
		want        []string
	}{
		"both, at the root": {"9:name=systemd:/\n1:cpu:/\n0::/\n", hybrid, []string{"/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"}},
		"v2 alone, in a session": {
			"0::/user.slice/session-1.scope\n", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
			[]string{"/sys/fs/cgroup/user.slice/session-1.scope"},
		},
		"a container's own part": {
			"0::/docker/abc/job\n", "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", []string{"/sys/fs/cgroup/job"},
		},
		"one that isn't mounted": {"0::/elsewhere\n", "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", nil},
		"none":                   {"", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, systemdCgroups(test.own, test.mounts))
		})
	}
}
