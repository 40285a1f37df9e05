package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rollcall/config"
	"rollcall/failure"
	"rollcall/systemd"
)

func newInstallCommand(env environment, g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install the agent as a service",
		Example: `  rollcall install systemd
  sudo rollcall install systemd --write`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newInstallSystemdCommand(env, g))
	return cmd
}

func newInstallSystemdCommand(env environment, g *globals) *cobra.Command {
	i := installation{env: env}
	var user, group, tokenFile string
	defaults := systemd.DefaultUnit()
	cmd := &cobra.Command{
		Use:   "systemd",
		Short: "Print or write a systemd unit",
		Long: `systemd prints a unit for the configuration: a sandbox that leaves open what the
storage, the outputs and services' unix sockets need and nothing else, readiness,
a watchdog, and the join token as a credential (token: credential:token), which no
other program and no environment sees.

It only prints, and says what it would do. With --write it writes the unit to
/etc/systemd/system, makes the user if there is none of that name, and has
systemd read the unit. It starts nothing. A unit that is there and differs is
left alone, but with --force. The user, the group, the program and the token's
file of such a unit stay, unless a flag says otherwise.

With --allow-reload and --allow-restart it also writes a rule for polkit, by
which the agent's user may have systemd do this to these units, and nothing
else: for the hooks reload_unit and restart_unit. On a host without polkit it
writes a .path unit for each instead, which does it when a hook touches a file.`,
		Example: `  # Look at it first
  rollcall install systemd

  # Install, start, and look
  sudo rollcall install systemd --write
  sudo systemctl enable --now rollcall
  systemctl status rollcall && sudo rollcall status

  # A second agent
  sudo rollcall install systemd -c /etc/grafana-bot.yaml --name grafana-bot \
      --user grafana-bot --token-file /etc/grafana-bot.token --write

  # Hooks reload nginx
  sudo rollcall install systemd --allow-reload nginx.service --write`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			i.earlier = i.readEarlier()
			if err := i.setAccount(user, group, cmd.Flags().Changed("user")); err != nil {
				return err
			}
			if err := i.fill(g, tokenFile); err != nil {
				return err
			}
			i.noteQuoted(cmd.Flags().Changed)
			return i.run()
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&i.write, "write", false, "write the unit in place of printing it")
	flags.BoolVar(&i.force, "force", false, "overwrite a unit that differs")
	flags.StringVar(&i.unit.Name, "name", defaults.Name, "`name` of the unit, without .service")
	flags.StringVar(&user, "user", defaults.User, "`user` that the agent runs as")
	flags.StringVar(&group, "group", "", "its `group` (default: the user's own)")
	flags.StringVar(&i.unit.Binary, "binary", "", "`path` of the program (default: that of the unit that is there, or else this one)")
	flags.StringVar(&tokenFile, "token-file", "", "`file` that systemd loads the join token from, if the configuration says credential:NAME (default /etc/rollcall.NAME)")
	flags.StringArrayVar(&i.unit.AllowReload, "allow-reload", nil, "`unit` that a hook may have reloaded, such as nginx.service; may be repeated")
	flags.StringArrayVar(&i.unit.AllowRestart, "allow-restart", nil, "`unit` that a hook may have restarted; may be repeated")
	flags.StringVar(&i.root, "root", "", "write below this `directory`, for building an image; nothing is run then")
	flags.Bool("anonymous-telemetry", false, "the official agent's; there is no telemetry here")
	_ = flags.MarkHidden("anonymous-telemetry")
	return cmd
}

// groupOf is the group that was given, or the user's own.
func groupOf(name, group string) string {
	if group != "" {
		return group
	}
	if account, err := user.Lookup(name); err == nil {
		if own, err := user.LookupGroupId(account.Gid); err == nil {
			return own.Name
		}
	}
	return name
}

// installation is what `install systemd` does, or would do.
type installation struct {
	env          environment
	unit         systemd.UnitOptions
	root         string
	write, force bool
	// earlier is of the unit that is there.
	earlier systemd.Earlier
	// polkit says that it's there, and would read a rule.
	polkit bool
	notes  []string
}

// unitPath is where the unit is, below root.
func (i *installation) unitPath() string {
	return filepath.Join("/etc/systemd/system", i.unit.Name+".service")
}

// fill takes from the configuration what the unit needs.
func (i *installation) fill(g *globals, tokenFile string) error {
	defaults := systemd.DefaultUnit()
	path, err := filepath.Abs(g.path(i.env, false))
	if err != nil {
		return err
	}
	i.unit.Config = path
	if err := i.setBinary(); err != nil {
		return err
	}
	cfg, err := config.Load(path)
	switch {
	case err == nil:
		i.fromConfig(cfg)
	case errors.Is(err, fs.ErrNotExist) && path == config.DefaultPath:
		i.unit.Storage, i.unit.Destinations, i.unit.Credential = defaults.Storage, defaults.Destinations, defaults.Credential
		i.notes = append(i.notes, fmt.Sprintf("%s doesn't exist: the unit is for storage %s, an output in %s and token: credential:%s. Make the file with `rollcall configure`, and run this again if it differs.",
			path, defaults.Storage, strings.Join(defaults.Destinations, ", "), defaults.Credential))
	default:
		return err
	}
	i.findPolkit()
	i.setTokenFile(tokenFile)
	return i.unit.Validate()
}

func (i *installation) fromConfig(cfg *config.Config) {
	if cfg.Storage.Directory != nil {
		i.unit.Storage = cfg.Storage.Directory.Path
	}
	for _, out := range cfg.Outputs {
		if d := out.Destination.Directory; d != nil {
			i.unit.Destinations = append(i.unit.Destinations, d.Path)
			i.noteMissing(d.Path, "run `rollcall init`, or make it")
		}
	}
	i.openSockets(cfg.Sockets())
	i.showReads(cfg.Reads(), "Below /etc or /usr/local")
	i.noteHooks(cfg)
	token := cfg.Onboarding.Token
	if name, ok := strings.CutPrefix(token, "credential:"); ok {
		i.unit.Credential = name
	} else if filepath.IsAbs(token) {
		i.notes = append(i.notes, fmt.Sprintf("the user %s must be able to read the token in %s; with token: credential:token only root needs to.", i.unit.User, token))
	}
	i.noteSecrets(cfg)
	info, err := os.Stat(cfg.File)
	if err == nil && info.Mode().Perm()&0o044 == 0 && i.unit.User != "root" {
		i.notes = append(i.notes, fmt.Sprintf("%s can be read by its owner alone: if that isn't %s, chgrp %s it and chmod 0640.", cfg.File, i.unit.User, i.unit.Group))
	}
}

// openSockets opens the sandbox for the directories of sockets, and tells of what it
// can't be opened for.
func (i *installation) openSockets(sockets []config.Read) {
	own := "/run/" + i.unit.Name
	var elsewhere []config.Read
	for _, socket := range sockets {
		i.unit.Sockets = append(i.unit.Sockets, socket.Path)
		switch {
		case i.unit.InRuntimeDirectory(socket.Path):
		case systemd.Shared(socket.Path):
			i.notes = append(i.notes, fmt.Sprintf("%s is %s: its directory isn't the agent's alone, and the sandbox isn't opened for it. Use one in %s or in a directory of its own, or have systemd pass the socket (a .socket unit with the service's name as FileDescriptorName=).",
				socket.Key, socket.Path, own))
		default:
			elsewhere = append(elsewhere, socket)
			i.noteMissing(filepath.Dir(socket.Path), "make it")
		}
	}
	i.showReads(elsewhere, "In "+own)
}

// showReads opens the sandbox for what the agent and its hooks read or listen on,
// and tells of it: a path at the better place would keep it closed.
func (i *installation) showReads(reads []config.Read, better string) {
	for _, read := range reads {
		setting := systemd.Hidden(read.Path)
		if setting == "" {
			continue
		}
		i.unit.Readable = append(i.unit.Readable, read.Path)
		i.notes = append(i.notes, fmt.Sprintf("%s is %s: the sandbox is opened for it (%s). %s it wouldn't have to be; the user %s must be able to get to it in any case.",
			read.Key, read.Path, setting, better, i.unit.User))
	}
}

// noteSecrets tells of credentials beside the join token, whose files only the
// operator knows.
func (i *installation) noteSecrets(cfg *config.Config) {
	secrets := cfg.Secrets()
	for _, key := range slices.Sorted(maps.Keys(secrets)) {
		if name := secrets[key]; name != i.unit.Credential {
			i.notes = append(i.notes, fmt.Sprintf("%s is credential:%s: give the unit a drop-in (systemctl edit %s) with [Service] LoadCredential=%s:/path/of/the/file.",
				key, name, i.unit.Name, name))
		}
	}
}

// noteMissing tells of a directory that the sandboxed agent couldn't make, and how
// it comes to be.
func (i *installation) noteMissing(path, how string) {
	if missing(path) {
		i.notes = append(i.notes, fmt.Sprintf("%s doesn't exist, and the unit's sandbox keeps the agent from making it: %s for the user %s.", path, how, i.unit.User))
	}
}

// run prints the unit, or installs it.
func (i *installation) run() error {
	steps, err := i.plan()
	if err != nil {
		return err
	}
	if !i.write {
		fmt.Fprint(i.env.Stdout, i.unit.Text())
		fmt.Fprintln(i.env.Stderr, "Nothing was changed. With --write, this would be done:")
		for _, step := range steps {
			fmt.Fprintln(i.env.Stderr, "  "+step.would)
		}
		// Not on standard output, which is the unit alone.
		for _, file := range i.permits() {
			fmt.Fprintf(i.env.Stderr, "%s is:\n%s", file.Path, file.Text)
		}
		i.printNotes()
		return nil
	}
	for _, step := range steps {
		if step.do == nil {
			return failure.New(failure.Configuration, "%s", step.would)
		}
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return err
		}
		fmt.Fprintln(i.env.Stdout, step.done)
	}
	i.printNotes()
	if i.root == "" {
		fmt.Fprintf(i.env.Stderr, "Next: systemctl enable --now %s\n", strings.Join(append([]string{i.unit.Name}, i.pathUnits()...), " "))
	}
	return nil
}

func (i *installation) printNotes() {
	for _, note := range i.notes {
		fmt.Fprintln(i.env.Stderr, "Note:", note)
	}
}
