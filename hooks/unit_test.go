package hooks

import (
	"context"
	"os"
	"strings"
	"testing"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"rollcall/failure"
)

// stubBus stands for one unit as systemd shows it.
type stubBus struct {
	load, active string
	pid          int
	// result is what a job ends with; empty: done.
	result string
	calls  []string
}

func (b *stubBus) GetUnitPropertyContext(_ context.Context, _, name string) (*systemd.Property, error) {
	value := map[string]string{"LoadState": b.load, "ActiveState": b.active}[name]
	return &systemd.Property{Name: name, Value: dbus.MakeVariant(value)}, nil
}

func (b *stubBus) GetServicePropertyContext(_ context.Context, _, name string) (*systemd.Property, error) {
	return &systemd.Property{Name: name, Value: dbus.MakeVariant(uint32(b.pid))}, nil
}

func (b *stubBus) call(name string, results chan<- string) (int, error) {
	b.calls = append(b.calls, name)
	if b.result == "" {
		b.result = "done"
	}
	results <- b.result
	return 1, nil
}

func (b *stubBus) ReloadUnitContext(_ context.Context, _, _ string, results chan<- string) (int, error) {
	return b.call("reload", results)
}

func (b *stubBus) RestartUnitContext(_ context.Context, _, _ string, results chan<- string) (int, error) {
	return b.call("restart", results)
}

func (b *stubBus) TryRestartUnitContext(_ context.Context, _, _ string, results chan<- string) (int, error) {
	return b.call("try-restart", results)
}

func TestJobByState(t *testing.T) {
	for name, test := range map[string]struct {
		bus   stubBus
		verb  verb
		calls string
		want  string // part of the error; empty: none
	}{
		"reload of one that runs":       {bus: stubBus{load: "loaded", active: "active"}, verb: reload, calls: "reload"},
		"restart of one that runs":      {bus: stubBus{load: "loaded", active: "active"}, verb: restart, calls: "try-restart"},
		"restart of one that starts":    {bus: stubBus{load: "loaded", active: "activating"}, verb: restart, calls: "try-restart"},
		"reload of a stopped one":       {bus: stubBus{load: "loaded", active: "inactive"}, verb: reload},
		"restart of a stopped one":      {bus: stubBus{load: "loaded", active: "inactive"}, verb: restart},
		"reload of a failed one":        {bus: stubBus{load: "loaded", active: "failed"}, verb: reload, want: "x.service has failed and doesn't run"},
		"restart of a failed one":       {bus: stubBus{load: "loaded", active: "failed"}, verb: restart, calls: "restart"},
		"restart that fails":            {bus: stubBus{load: "loaded", active: "active", result: "failed"}, verb: restart, calls: "try-restart", want: `the job's result is "failed"`},
		"restart that fails once again": {bus: stubBus{load: "loaded", active: "failed", result: "failed"}, verb: restart, calls: "restart", want: `the job's result is "failed"`},
		"masked":                        {bus: stubBus{load: "masked", active: "inactive"}, verb: restart, want: "x.service is masked"},
		"missing":                       {bus: stubBus{load: "not-found", active: "inactive"}, verb: reload, want: "there is no systemd unit x.service"},
		"a broken file":                 {bus: stubBus{load: "bad-setting", active: "inactive"}, verb: reload, want: "can't load x.service"},
	} {
		t.Run(name, func(t *testing.T) {
			err := runJob(t.Context(), &test.bus, test.verb, "x.service")
			if test.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.want)
			}
			require.Equal(t, test.calls, strings.Join(test.bus.calls, " "))
		})
	}
}

func TestOwnUnitIsRefused(t *testing.T) {
	for _, v := range []verb{reload, restart} {
		own := stubBus{load: "loaded", active: "active", pid: os.Getpid()}
		err := runJob(t.Context(), &own, v, "alias.service")
		require.ErrorContains(t, err, "alias.service is rollcall's own unit")
		require.Equal(t, failure.Configuration, failure.KindOf(err))
		require.Empty(t, own.calls)
	}
}
