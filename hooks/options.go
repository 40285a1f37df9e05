package hooks

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rollcall/failure"
	"rollcall/systemd"
)

const (
	// DefaultTimeout is how long one hook may take.
	DefaultTimeout = 30 * time.Second
	// MaxTimeout is the longest timeout that can be set.
	MaxTimeout = 10 * time.Minute
)

// Options are one hook: exactly one of Exec, Signal, ReloadUnit and
// RestartUnit.
type Options struct {
	// Exec is a program's absolute path and its arguments. There's no shell,
	// and nothing is expanded.
	Exec []string `yaml:"exec,omitempty"`
	// Signal is the name of a signal, such as HUP; `pid_file` or `unit` says who
	// gets it.
	Signal string `yaml:"signal,omitempty"`
	// PIDFile is the absolute path of the file that holds the number of the
	// process to signal. A stale one is refused.
	PIDFile string `yaml:"pid_file,omitempty"`
	// Unit is the systemd service whose main process gets the signal.
	Unit string `yaml:"unit,omitempty"`
	// ReloadUnit is a systemd unit to reload; one that is stopped is left
	// alone.
	ReloadUnit string `yaml:"reload_unit,omitempty"`
	// RestartUnit is a systemd unit to restart; one that is stopped is left
	// alone.
	RestartUnit string `yaml:"restart_unit,omitempty"`
	// User is the user to run the program of `exec` as, by name or number. The
	// agent needs CAP_SETUID, CAP_SETGID and CAP_KILL for that.
	User string `yaml:"user,omitempty"`
	// Timeout is how long the hook may take; a program is then killed, with
	// all that it started.
	Timeout time.Duration `yaml:"timeout,omitempty"`
}

// SetDefaults fills in what isn't given.
func (o *Options) SetDefaults() {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
}

// String names the hook in logs and metrics: "exec /usr/local/bin/notify".
// Arguments are left out: they may be long, or nobody's business.
func (o *Options) String() string {
	switch {
	case len(o.Exec) > 0:
		return "exec " + o.Exec[0]
	case o.Signal != "" && o.Unit != "":
		return "signal " + o.Signal + " " + o.Unit
	case o.Signal != "":
		return "signal " + o.Signal + " " + o.PIDFile
	case o.ReloadUnit != "":
		return "reload_unit " + o.ReloadUnit
	default:
		return "restart_unit " + o.RestartUnit
	}
}

// Validate fills in the defaults and returns a failure.FieldError for each
// field that can't work, joined. It touches no disk.
func (o *Options) Validate() error {
	o.SetDefaults()
	errs := []error{o.validateKind(), o.validateExec(), o.validateSignal()}
	errs = append(errs, validateUnit("reload_unit", o.ReloadUnit), validateUnit("restart_unit", o.RestartUnit), validateUnit("unit", o.Unit))
	switch {
	case o.Timeout < 0:
		errs = append(errs, failure.Field("timeout", "is %s, and must be more than nothing", o.Timeout))
	case o.Timeout > MaxTimeout:
		errs = append(errs, failure.Field("timeout", "is %s: %s is the most; a program that takes longer should go on by itself, for example as a systemd unit", o.Timeout, MaxTimeout))
	}
	return errors.Join(errs...)
}

func (o *Options) validateKind() error {
	var kinds []string
	for _, kind := range []struct {
		key   string
		given bool
	}{
		{"exec", o.Exec != nil},
		{"signal", o.Signal != ""},
		{"reload_unit", o.ReloadUnit != ""},
		{"restart_unit", o.RestartUnit != ""},
	} {
		if kind.given {
			kinds = append(kinds, kind.key)
		}
	}
	switch len(kinds) {
	case 0:
		return failure.Field("exec", "the hook does nothing; give it one of exec, signal, reload_unit and restart_unit")
	case 1:
		return nil
	default:
		return failure.Field(kinds[1], "%s are both given; make them two items of the list", strings.Join(kinds[:2], " and "))
	}
}

func (o *Options) validateExec() error {
	if o.Exec == nil {
		if o.User != "" {
			return failure.Field("user", "goes with exec only")
		}
		return nil
	}
	if len(o.Exec) == 0 {
		return failure.Field("exec", "the list is empty; give a program's absolute path and its arguments")
	}
	for i, arg := range o.Exec {
		if strings.ContainsRune(arg, 0) {
			return failure.Field(fmt.Sprintf("exec[%d]", i), "holds a NUL byte")
		}
	}
	switch program := o.Exec[0]; {
	case strings.ContainsAny(program, " \t") && !strings.HasPrefix(program, "/") || len(o.Exec) == 1 && strings.Contains(program, " -"):
		return failure.Field("exec[0]", "is %q: there's no shell, so write each argument as an item of its own", program)
	case !filepath.IsAbs(program):
		return failure.Field("exec[0]", "is %q: give the program's absolute path, such as /usr/local/bin/notify", program)
	}
	return nil
}

// signalNames are the signals that tell a program something. KILL isn't among
// them: whoever wants a program to end has restart_unit.
func signalNames() []string {
	return []string{"HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "ALRM", "WINCH", "CONT"}
}

// number returns the signal's number, or 0 if there's none of that name.
func (o *Options) number() unix.Signal {
	name := strings.TrimPrefix(o.Signal, "SIG")
	if !slices.Contains(signalNames(), name) {
		return 0
	}
	return unix.SignalNum("SIG" + name)
}

func (o *Options) validateSignal() error {
	if o.Signal == "" {
		var errs []error
		if o.PIDFile != "" {
			errs = append(errs, failure.Field("pid_file", "goes with signal only"))
		}
		if o.Unit != "" {
			errs = append(errs, failure.Field("unit", "goes with signal only; did you mean reload_unit or restart_unit?"))
		}
		return errors.Join(errs...)
	}
	var errs []error
	if o.number() == 0 {
		errs = append(errs, failure.Field("signal", "is %q: use one of %s", o.Signal, strings.Join(signalNames(), ", ")))
	}
	switch {
	case o.PIDFile == "" && o.Unit == "":
		errs = append(errs, failure.Field("signal", "nobody gets it; say who with pid_file or unit"))
	case o.PIDFile != "" && o.Unit != "":
		errs = append(errs, failure.Field("unit", "pid_file is given as well; keep one of them"))
	case o.PIDFile != "" && !filepath.IsAbs(o.PIDFile):
		errs = append(errs, failure.Field("pid_file", "is %q: give an absolute path", o.PIDFile))
	case o.Unit != "" && !strings.HasSuffix(o.Unit, ".service"):
		errs = append(errs, failure.Field("unit", "is %q: only a service has a process; write %s.service", o.Unit, trimUnit(o.Unit)))
	}
	return errors.Join(errs...)
}

// validateUnit wants a whole name, as D-Bus does.
func validateUnit(field, unit string) error {
	switch {
	case unit == "", systemd.ValidUnitName(unit):
		return nil
	case systemd.ValidUnitName(unit + ".service"):
		return failure.Field(field, "is %q: write the unit's whole name, such as %s.service", unit, unit)
	default:
		return failure.Field(field, "is %q, which is no name of a systemd unit", unit)
	}
}

func trimUnit(unit string) string {
	if ext := filepath.Ext(unit); slices.Contains(systemd.UnitTypes(), ext) {
		return strings.TrimSuffix(unit, ext)
	}
	return unit
}
