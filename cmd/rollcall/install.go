package main

import (
	"cmp"
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
storage and the outputs need and nothing else, readiness, a watchdog, and the
join token as a credential (token: credential:token), which no other program
and no environment sees.

It only prints, and says what it would do. With --write it writes the unit to
/etc/systemd/system, makes the user if there is none of that name, and has
systemd read the unit. It starts nothing. A unit that is there and differs is
left alone, but with --force. The user, the group and the token's file of such a
unit stay, unless a flag says otherwise.

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
			if i.earlier.User != "" && !cmd.Flags().Changed("user") {
				i.noteEarlier(user)
				user = i.earlier.User
				group = cmp.Or(group, i.earlier.Group)
			}
			i.unit.User, i.unit.Group = user, groupOf(user, group)
			if err := i.fill(g, tokenFile); err != nil {
				return err
			}
			return i.run()
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&i.write, "write", false, "write the unit in place of printing it")
	flags.BoolVar(&i.force, "force", false, "overwrite a unit that differs")
	flags.StringVar(&i.unit.Name, "name", defaults.Name, "`name` of the unit, without .service")
	flags.StringVar(&user, "user", defaults.User, "`user` that the agent runs as")
	flags.StringVar(&group, "group", "", "its `group` (default: the user's own)")
	flags.StringVar(&i.unit.Binary, "binary", "", "`path` of the program (default: this one)")
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

// readEarlier reads the unit that is there: what an earlier run was told by flags,
// and no configuration says, holds until a flag says otherwise. An agent that ran
// as another user from then on couldn't read its own storage.
func (i *installation) readEarlier() systemd.Earlier {
	text, err := os.ReadFile(filepath.Join("/", i.root, i.unitPath()))
	if err != nil {
		return systemd.Earlier{} // plan tells of one that can't be read
	}
	return systemd.ReadEarlier(string(text))
}

// unitPath is where the unit is, below root.
func (i *installation) unitPath() string {
	return filepath.Join("/etc/systemd/system", i.unit.Name+".service")
}

// noteEarlier tells of the user if the flag's default is another.
func (i *installation) noteEarlier(user string) {
	if i.earlier.User != user {
		i.notes = append(i.notes, fmt.Sprintf("the user %s is that of the unit that is there; --user names another.", i.earlier.User))
	}
}

// fill takes from the configuration what the unit needs.
func (i *installation) fill(g *globals, tokenFile string) error {
	defaults := systemd.DefaultUnit()
	path, err := filepath.Abs(g.path(i.env, false))
	if err != nil {
		return err
	}
	i.unit.Config = path
	if i.unit.Binary == "" {
		if i.unit.Binary, err = os.Executable(); err != nil {
			return failure.Wrap(failure.Configuration, err, "the path of this program is unknown: give it with --binary")
		}
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
	if i.unit.Credential != "" {
		if i.earlier.Credential == i.unit.Credential {
			tokenFile = cmp.Or(tokenFile, i.earlier.TokenFile)
		}
		i.unit.TokenFile = cmp.Or(tokenFile, "/etc/rollcall."+i.unit.Credential)
	}
	return i.unit.Validate()
}

func (i *installation) fromConfig(cfg *config.Config) {
	if cfg.Storage.Directory != nil {
		i.unit.Storage = cfg.Storage.Directory.Path
	}
	for _, out := range cfg.Outputs {
		if d := out.Destination.Directory; d != nil {
			i.unit.Destinations = append(i.unit.Destinations, d.Path)
			i.noteMissing(d.Path)
		}
	}
	for _, socket := range cfg.Sockets() {
		i.unit.Sockets = append(i.unit.Sockets, socket.Path)
	}
	i.showReads(cfg)
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

// showReads opens the sandbox for what the agent and its hooks read, and tells of
// it: a path elsewhere would keep it closed.
func (i *installation) showReads(cfg *config.Config) {
	for _, read := range cfg.Reads() {
		setting := systemd.Hidden(read.Path)
		if setting == "" {
			continue
		}
		i.unit.Readable = append(i.unit.Readable, read.Path)
		i.notes = append(i.notes, fmt.Sprintf("%s is %s: the sandbox is opened for it (%s). Below /etc or /usr/local it wouldn't have to be; the user %s must be able to get to it in any case.",
			read.Key, read.Path, setting, i.unit.User))
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

// noteMissing tells of a directory that the sandboxed agent couldn't make.
func (i *installation) noteMissing(path string) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		i.notes = append(i.notes, fmt.Sprintf("%s doesn't exist, and the unit's sandbox keeps the agent from making it: run `rollcall init`, or make it for the user %s.", path, i.unit.User))
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
