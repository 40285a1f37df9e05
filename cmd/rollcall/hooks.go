package main

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/gravitational/trace"
	"github.com/spf13/cobra"

	"rollcall/config"
	"rollcall/destination"
	"rollcall/diagnostics"
	"rollcall/failure"
	"rollcall/hooks"
	"rollcall/outputs"
	"rollcall/service"
)

// addHooks makes the runner of an output's hooks, has it hear of changes, and
// hosts it. It returns nil if the output has no hooks.
func (a *agent) addHooks(out config.Output, env environment, deps *outputs.Dependencies) (*hooks.Runner, error) {
	if !hasHooks(out) {
		return nil, nil
	}
	options := runnerOptions(out, env)
	options.Log = a.log
	options.Metrics = a.hookMetrics
	options.Units = a.hookUnits
	options.Reporter = a.board.Reporter(out.Name, out.Type)
	if out.Destination.Type == destination.TypeDirectory {
		options.Ledger = a.ledger()
		options.Current = func(ctx context.Context) (hooks.Change, error) {
			change, err := setInPlace(ctx, out, a)
			return toldHooks(change), err
		}
	}
	runner, err := hooks.NewRunner(options)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	deps.AfterWrite = func(_ context.Context, change outputs.Change) { runner.Changed(toldHooks(change)) }
	if a.cfg.Oneshot {
		return runner, nil // the output's Once runs them
	}
	return runner, trace.Wrap(a.host.Add(runner, service.Unreported))
}

// ledger returns what remembers hooks over a restart, or nil if nothing does.
func (a *agent) ledger() *hooks.Ledger {
	place := a.cfg.Storage.Directory
	if a.hookLedger != nil || place == nil {
		return a.hookLedger
	}
	dir, err := destination.OpenDir(place.Path, place.Symlinks)
	if err != nil {
		a.log.Warn("Hooks that are cut off won't be made up for: the storage can't be opened for them.", diagnostics.KeyErr, err)
		return nil
	}
	a.closers = append(a.closers, func() { _ = dir.Close() })
	var names []string
	for _, out := range a.cfg.Outputs {
		if hasHooks(out) {
			names = append(names, out.Name)
		}
	}
	a.hookLedger = hooks.OpenLedger(dir, names, a.log)
	return a.hookLedger
}

func hasHooks(out config.Output) bool {
	return len(out.Common.OnRenewal) > 0 || out.Common.HooksDir != ""
}

func runnerOptions(out config.Output, env environment) hooks.RunnerOptions {
	return hooks.RunnerOptions{
		Output:    out.Name,
		Hooks:     out.Common.OnRenewal,
		Directory: out.Common.HooksDir,
		Interval:  out.Common.RenewalInterval,
		Getenv:    env.Getenv,
	}
}

// toldHooks is what hooks hear of an output's change.
func toldHooks(c outputs.Change) hooks.Change {
	return hooks.Change{
		Output: c.Output, Directory: c.DirectoryPath, NotAfter: c.NotAfter,
		Serial: c.Serial, Reason: c.Reason, Files: c.Files,
	}
}

// hookedOutput is an output whose hooks are part of what it does once.
type hookedOutput struct {
	output
	runner *hooks.Runner
}

// hooked returns out with its hooks; runner may be nil.
func hooked(out output, runner *hooks.Runner) output {
	if runner == nil {
		return out
	}
	return hookedOutput{out, runner}
}

// Once renews the output and then runs its hooks, if anything changed.
func (h hookedOutput) Once(ctx context.Context) error {
	if err := h.output.Once(ctx); err != nil {
		return err
	}
	return h.runner.Once(ctx)
}

func newHooksCommand(env environment, g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "hooks",
		Short:   "Try out what runs after a renewal",
		Example: `  rollcall hooks test grafana`,
		Args:    knownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newHooksTestCommand(env, g))
	return cmd
}

func newHooksTestCommand(env environment, g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "test OUTPUT",
		Short: "Run an output's hooks now, without renewing",
		Long: `test runs every hook of one output, in order and one time each, and tells them of
the files that are in place. Nothing is renewed, and the cluster isn't asked.

Hooks have the rights of whoever runs this: to see what the agent may do, run it
as the agent's user. The unit's sandbox isn't there.

Exit codes: 0 every hook worked; 1 the configuration is wrong; 2 a hook failed.`,
		Example: `  runuser -u teleport -- rollcall hooks test grafana -c /etc/rollcall.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{fmt.Errorf("name one output; see `%s --help`", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load(g.path(env, false))
			if err != nil {
				return err
			}
			return testHooks(cmd.Context(), cfg, env, g, args[0])
		},
	}
}

func testHooks(ctx context.Context, cfg *config.Config, env environment, g *globals, name string) error {
	out, err := outputNamed(cfg, name)
	if err != nil {
		return err
	}
	if !hasHooks(out) {
		return failure.New(failure.Configuration, "output %s has no hooks: add on_renewal or hooks_dir to it", name)
	}
	options := runnerOptions(out, env)
	options.Log = newLogger(env, string(cfg.LogFormat), g.debug)
	runner, err := hooks.NewRunner(options)
	if err != nil {
		return err
	}
	change, err := setInPlace(ctx, out, &agent{log: options.Log})
	if err != nil {
		return err
	}
	// Interrupted, it kills what runs: programs don't get the terminal's signal
	// themselves.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	results, err := runner.Test(ctx, toldHooks(change))
	if err != nil {
		results = append(results, hooks.Result{Hook: "hooks_dir " + out.Common.HooksDir, Err: err})
	}
	if err := writeHooks(env.Stdout, results); err != nil {
		return err
	}
	for _, r := range results {
		if r.Err != nil {
			return &shownError{err: r.Err, code: exitFailed}
		}
	}
	return nil
}

// outputNamed finds an output of the configuration.
func outputNamed(cfg *config.Config, name string) (config.Output, error) {
	var names []string
	for _, out := range cfg.Outputs {
		if out.Name == name {
			return out, nil
		}
		names = append(names, out.Name)
	}
	return config.Output{}, failure.New(failure.Configuration, "there is no output %q; %s", name,
		suggestion(config.Nearest(name, names), "the outputs are: "+strings.Join(names, ", ")))
}

// setInPlace describes what the output's destination holds. What isn't kept on
// a disk is described without a certificate.
func setInPlace(ctx context.Context, out config.Output, a *agent) (outputs.Change, error) {
	const reason = "hooks test"
	if out.Destination.Type != destination.TypeDirectory {
		return outputs.Change{Output: out.Name, Type: out.Type, Reason: reason}, nil
	}
	place, err := a.place(out.Destination)
	if err != nil {
		return outputs.Change{}, err
	}
	change, err := outputs.Current(ctx, filesOf(out.Options), place)
	if err != nil {
		return outputs.Change{}, err
	}
	change.Output, change.Type, change.Reason = out.Name, out.Type, reason
	change.DirectoryPath, err = filepath.Abs(out.Destination.Directory.Path)
	return change, trace.Wrap(err)
}

// filesOf are the names of an output's files in a directory.
func filesOf(options any) []string {
	switch opts := options.(type) {
	case *outputs.ApplicationOptions:
		return opts.Files()
	case *outputs.IdentityOptions:
		return opts.Files(true)
	default:
		return nil
	}
}

// writeHooks prints a table, and below it what the programs printed.
func writeHooks(w io.Writer, results []hooks.Result) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "HOOK\tRESULT\tTOOK\tERROR")
	for _, r := range results {
		result, text := "ok", ""
		if r.Err != nil {
			result, text = "failed", strings.Join(strings.Fields(r.Err.Error()), " ")
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", r.Hook, result, r.Took.Round(time.Millisecond), text)
	}
	if err := table.Flush(); err != nil {
		return trace.Wrap(err)
	}
	for _, r := range results {
		for _, line := range r.Output {
			if _, err := fmt.Fprintf(w, "%s: %s\n", r.Hook, line); err != nil {
				return trace.Wrap(err)
			}
		}
	}
	return nil
}
