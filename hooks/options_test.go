package hooks

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestOptionsValidate(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		want    string // part of the error; empty: valid
	}{
		"exec":                {options: Options{Exec: []string{"/bin/true"}}},
		"signal":              {options: Options{Signal: "SIGHUP", PIDFile: "/run/x.pid"}},
		"signal of a unit":    {options: Options{Signal: "USR2", Unit: "x.service"}},
		"template":            {options: Options{ReloadUnit: "getty@tty1.service"}},
		"nothing":             {want: "exec: the hook does nothing"},
		"two":                 {options: Options{Exec: []string{"/bin/true"}, ReloadUnit: "x.service"}, want: "reload_unit: exec and reload_unit are both given"},
		"no arguments":        {options: Options{Exec: []string{}}, want: "exec: the list is empty"},
		"relative":            {options: Options{Exec: []string{"true"}}, want: "exec[0]: is \"true\": give the program's absolute path"},
		"a line":              {options: Options{Exec: []string{"systemctl reload x"}}, want: "there's no shell"},
		"a line with options": {options: Options{Exec: []string{"/bin/sh -c x"}}, want: "there's no shell"},
		"NUL":                 {options: Options{Exec: []string{"/bin/echo", "a\x00b"}}, want: "exec[1]: holds a NUL byte"},
		"KILL":                {options: Options{Signal: "KILL", PIDFile: "/run/x.pid"}, want: `signal: is "KILL": use one of HUP`},
		"small letters":       {options: Options{Signal: "hup", PIDFile: "/run/x.pid"}, want: `signal: is "hup"`},
		"nobody":              {options: Options{Signal: "HUP"}, want: "signal: nobody gets it"},
		"both":                {options: Options{Signal: "HUP", PIDFile: "/run/x.pid", Unit: "x.service"}, want: "unit: pid_file is given as well"},
		"relative pid file":   {options: Options{Signal: "HUP", PIDFile: "x.pid"}, want: "pid_file: is \"x.pid\": give an absolute path"},
		"signal of a socket":  {options: Options{Signal: "HUP", Unit: "x.socket"}, want: "write x.service"},
		"unit without type":   {options: Options{ReloadUnit: "nginx"}, want: "write the unit's whole name, such as nginx.service"},
		"quote in a unit":     {options: Options{ReloadUnit: `x".service`}, want: "no name of a systemd unit"},
		"path for a unit":     {options: Options{RestartUnit: "../x.service"}, want: "no name of a systemd unit"},
		"user of a reload":    {options: Options{ReloadUnit: "x.service", User: "app"}, want: "user: goes with exec only"},
		"stray pid_file":      {options: Options{ReloadUnit: "x.service", PIDFile: "/run/x.pid"}, want: "pid_file: goes with signal only"},
		"long":                {options: Options{ReloadUnit: "x.service", Timeout: time.Hour}, want: "timeout: is 1h0m0s: 10m0s is the most"},
		"negative":            {options: Options{ReloadUnit: "x.service", Timeout: -1}, want: "timeout: is -1ns"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.options.Validate()
			if test.want != "" {
				require.ErrorContains(t, err, test.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, DefaultTimeout, test.options.Timeout)
		})
	}
}

func TestSignalsHaveNumbers(t *testing.T) {
	for _, name := range signalNames() {
		require.NotZero(t, (&Options{Signal: name}).number(), name)
		require.NotZero(t, (&Options{Signal: "SIG" + name}).number(), name)
	}
	require.Equal(t, unix.SIGHUP, (&Options{Signal: "HUP"}).number())
}

func TestOptionsString(t *testing.T) {
	for want, options := range map[string]Options{
		"exec /bin/notify":       {Exec: []string{"/bin/notify", "--password", "x"}},
		"signal HUP /run/x.pid":  {Signal: "HUP", PIDFile: "/run/x.pid"},
		"signal HUP x.service":   {Signal: "HUP", Unit: "x.service"},
		"reload_unit x.service":  {ReloadUnit: "x.service"},
		"restart_unit x.service": {RestartUnit: "x.service"},
	} {
		require.Equal(t, want, options.String())
	}
}

func TestNotesNameWhatIsNeeded(t *testing.T) {
	for want, options := range map[string]Options{
		"AmbientCapabilities=CAP_SETUID CAP_SETGID CAP_KILL": {Exec: []string{"/bin/true"}, User: "app"},
		"ReadWritePaths=":                                    {Exec: []string{"/bin/true"}},
		"ProtectProc=default":                                {Signal: "HUP", PIDFile: "/run/x.pid"},
		"AmbientCapabilities=CAP_KILL":                       {Signal: "HUP", Unit: "x.service"},
		"rollcall install systemd --allow-reload x.service":  {ReloadUnit: "x.service"},
		"rollcall install systemd --allow-restart x.service": {RestartUnit: "x.service"},
	} {
		require.Contains(t, options.Notes()[0], want)
	}
}

func TestHasAll(t *testing.T) {
	both := []int{unix.CAP_SETGID, unix.CAP_SETUID} // bits 6 and 7
	require.True(t, hasAll("000001ffffffffff", both))
	require.True(t, hasAll("00000000000000c0", both))
	require.False(t, hasAll("0000000000000080", both))
	require.False(t, hasAll("0000000000000000", both))
	require.False(t, hasAll("nonsense", both))
}

func TestRetryDelay(t *testing.T) {
	for _, interval := range []time.Duration{0, 6 * time.Second, time.Minute, 20 * time.Minute, 24 * time.Hour} {
		total := time.Duration(0)
		for n := 1; n < maxAttempts; n++ {
			wait, again := retryDelay(n, interval)
			require.True(t, again)
			require.GreaterOrEqual(t, wait, minWait)
			total += wait
		}
		_, again := retryDelay(maxAttempts, interval)
		require.False(t, again)
		require.LessOrEqual(t, total, 85*maxWait)
		if interval > 0 {
			require.Less(t, total, interval, "the attempts don't fit between two renewals")
		}
	}
}
