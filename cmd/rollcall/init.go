package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"rollcall/acl"
	"rollcall/config"
	"rollcall/destination"
	"rollcall/failure"
	"rollcall/outputs"
)

// initFlags are init's flags; most have the official agent's names.
type initFlags struct {
	destinationDir, initDir   string
	botUser, owner            string
	readerUsers, readerGroups []string
	clean, dryRun             bool
	format                    string
}

func newInitCommand(env environment, g *globals) *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make directories ready for the bot and for those who read its files",
		Long: `init creates the storage and the outputs' directories, with owner, mode and
POSIX ACLs: the bot may write, the readers may read, and nobody else gets in. It
runs as root, or as the directories' owner, before the agent is started.

The readers that it's given are kept as the directory's default ACL, and hold
for every later renewal. Readers in the configuration go before them.

Every parent is checked: one that the bot or a reader can't get through is
named, and nothing is changed. A second run changes nothing. Files that aren't
rollcall's are left alone without --clean.

Exit codes: 0 done, or nothing to do; 1 refused, with the reason; 2 cut off.`,
		Example: `  # The bot runs as teleport, and the program as app
  rollcall init --destination-dir=/opt/machine-id --bot-user=teleport --reader-user=app

  # All directories of a configuration file; first look, then do
  rollcall init -c /etc/rollcall.yaml --bot-user=teleport --reader-group=web --dry-run
  rollcall init -c /etc/rollcall.yaml --bot-user=teleport --reader-group=web

  # One of them
  rollcall init -c /etc/rollcall.yaml --init-dir=/opt/grafana --bot-user=teleport --reader-user=app`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.format != "text" && f.format != "json" {
				return &usageError{fmt.Errorf("--format %q isn't text or json", f.format)}
			}
			return initialise(cmd.Context(), env, g, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.destinationDir, "destination-dir", "", "make this `directory` ready; it needs no configuration file")
	flags.StringVar(&f.initDir, "init-dir", "", "of the file's outputs, only the one with this `directory`")
	flags.StringVar(&f.botUser, "bot-user", "", "`user` that runs the agent, by name or number (default: the owner, or who runs this)")
	flags.StringArrayVar(&f.readerUsers, "reader-user", nil, "`user` that may read the files, by name or number; may be repeated")
	flags.StringArrayVar(&f.readerGroups, "reader-group", nil, "`group` that may read the files, by name or number; may be repeated")
	flags.StringVar(&f.owner, "owner", "", "`user:group` that the directories belong to (default: the bot)")
	flags.BoolVar(&f.clean, "clean", false, "remove from the outputs' directories what isn't rollcall's")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print what would be changed, and change nothing")
	flags.StringVar(&f.format, "format", "text", "print as `text or json`")
	return cmd
}

// initialise plans everything first, so that a refusal leaves nothing half done.
func initialise(ctx context.Context, env environment, g *globals, f initFlags) error {
	places, err := f.places(env, g)
	if err != nil {
		return err
	}
	report := initReport{DryRun: f.dryRun}
	var plans []*destination.InitPlan
	defer func() {
		for _, p := range plans {
			p.Close()
		}
	}()
	var refusals []error
	for _, place := range places {
		plan, err := destination.PlanInit(place.options)
		if err != nil {
			refusals = append(refusals, &visibleError{err})
			continue
		}
		plans = append(plans, plan)
		report.add(place.name, plan)
	}
	if len(refusals) > 0 {
		return failure.Wrap(failure.Configuration, errors.Join(refusals...), "nothing was changed: %v", errors.Join(refusals...))
	}
	if !f.dryRun {
		for _, plan := range plans {
			if err := plan.Apply(ctx); err != nil {
				return &visibleError{err}
			}
		}
	}
	return report.print(env, f.format)
}

// initPlace is one directory, and what it's for.
type initPlace struct {
	name    string
	options destination.InitOptions
}

// places returns the directories that the flags and the file name.
func (f *initFlags) places(env environment, g *globals) ([]initPlace, error) {
	base, err := f.base()
	if err != nil {
		return nil, err
	}
	cfg, err := f.config(env, g)
	if err != nil {
		return nil, err
	}
	only := f.destinationDir
	if f.initDir != "" {
		only = f.initDir
	}
	var places []initPlace
	var known []string
	if cfg != nil {
		for _, out := range cfg.Outputs {
			d := out.Destination.Directory
			if d == nil {
				continue
			}
			known = append(known, d.Path)
			if only == "" || filepath.Clean(d.Path) == filepath.Clean(only) {
				o := base
				o.Directory = *d
				places = append(places, initPlace{"output " + out.Name, o})
			}
		}
		if d := cfg.Storage.Directory; d != nil && only == "" {
			o := base
			o.Directory, o.Storage, o.Owner, o.Clean, o.Readers = *d, true, base.Bot, false, nil
			places = append([]initPlace{{"storage", o}}, places...)
		}
	}
	switch {
	case len(places) > 0:
		return places, nil
	case only == "":
		return nil, failure.New(failure.Configuration, "there's nothing to make ready: neither the storage nor an output is a directory; name one with --destination-dir")
	case f.initDir != "" && cfg != nil:
		return nil, failure.New(failure.Configuration, "--init-dir: no output has the directory %s; there are: %s", only, strings.Join(known, ", "))
	}
	if err := apart(cfg, only); err != nil {
		return nil, err
	}
	base.Directory = destination.DirectoryOptions{Path: only}
	return []initPlace{{"directory", base}}, nil
}

// apart refuses a directory that a known configuration uses otherwise, or that
// lies in or around one that it uses.
func apart(cfg *config.Config, dir string) error {
	if cfg == nil {
		return nil
	}
	full, err := filepath.Abs(dir)
	if err != nil {
		return failure.Wrap(failure.Configuration, err, "the directory %s can't be found: %v", dir, err)
	}
	check := func(d *destination.DirectoryOptions, whose string) error {
		if d == nil {
			return nil
		}
		used, err := filepath.Abs(d.Path)
		if err != nil || !within(full, used) && !within(used, full) {
			return nil //nolint:nilerr // a path that has no meaning here can't clash
		}
		return failure.New(failure.Configuration,
			"%s is, or lies in or around, %s, the directory of %s: give a directory apart from it, or leave --destination-dir out, and init sees to all that the configuration names", dir, d.Path, whose)
	}
	if err := check(cfg.Storage.Directory, "the storage"); err != nil {
		return err
	}
	for _, out := range cfg.Outputs {
		if err := check(out.Destination.Directory, "the output "+out.Name); err != nil {
			return err
		}
	}
	return nil
}

// within says that the absolute clean path a is b, or below it.
func within(a, b string) bool {
	return a == b || strings.HasPrefix(a, strings.TrimSuffix(b, "/")+"/")
}

// config reads the configuration; nil if a directory is named and there's no
// file.
func (f *initFlags) config(env environment, g *globals) (*config.Config, error) {
	path := g.path(env, false)
	named := g.configPath != "" || env.Getenv("TBOT_CONFIG_PATH") != ""
	if !named && (f.destinationDir != "" || f.initDir != "") {
		if _, err := os.Stat(path); err != nil {
			return nil, nil //nolint:nilerr // the default file needn't be there
		}
	}
	return config.Load(path)
}

// base turns names into ids.
func (f *initFlags) base() (destination.InitOptions, error) {
	var o destination.InitOptions
	if f.destinationDir != "" && f.initDir != "" && filepath.Clean(f.destinationDir) != filepath.Clean(f.initDir) {
		return o, &usageError{errors.New("--destination-dir and --init-dir name different directories: give one of them")}
	}
	o.Clean, o.Known = f.clean, outputs.KnownFiles()
	for _, name := range f.readerUsers {
		o.Readers = append(o.Readers, destination.Reader{User: name})
	}
	for _, name := range f.readerGroups {
		o.Readers = append(o.Readers, destination.Reader{Group: name})
	}
	if _, err := destination.ResolveReaders(o.Readers); err != nil {
		return o, failure.Wrap(failure.Configuration, err, "--reader-user or --reader-group: %v", err)
	}
	o.Owner = destination.Account{UID: uint32(os.Geteuid()), GID: destination.KeepGroup}
	if f.owner != "" {
		owner, err := account(f.owner)
		if err != nil {
			return o, failure.Wrap(failure.Configuration, err, "--owner: %v", err)
		}
		o.Owner = owner
	}
	o.Bot = o.Owner
	if f.botUser != "" {
		bot, err := account(f.botUser)
		if err != nil {
			return o, failure.Wrap(failure.Configuration, err, "--bot-user: %v", err)
		}
		o.Bot = bot
		if f.owner == "" {
			o.Owner = bot
		}
	}
	if o.Owner.UID == o.Bot.UID {
		o.Bot = o.Owner // with the group that was asked for
	}
	return o, nil
}

// account reads "user" or "user:group"; without a group it's the user's first.
func account(text string) (destination.Account, error) {
	a := destination.Account{GID: destination.KeepGroup}
	user, group, given := strings.Cut(text, ":")
	var err error
	if a.UID, err = acl.LookupUser(user); err != nil {
		return a, err
	}
	if given {
		gid, err := acl.LookupGroup(group)
		a.GID = int(gid)
		return a, err
	}
	if groups := acl.Groups(a.UID); len(groups) > 0 {
		a.GID = int(groups[0])
	}
	return a, nil
}

// initReport is what init prints as JSON; its names don't change.
type initReport struct {
	DryRun      bool            `json:"dry_run"`
	Changed     bool            `json:"changed"`
	Directories []initDirectory `json:"directories"`
}

type initDirectory struct {
	Path    string   `json:"path"`
	For     string   `json:"for"`
	Changes []string `json:"changes"`
	Readers []string `json:"readers,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

// add takes a plan into the report. A parent that two directories have in common
// is made, and told of, once.
func (r *initReport) add(name string, plan *destination.InitPlan) {
	d := initDirectory{Path: plan.Path, For: name, Changes: []string{}, Readers: plan.Readers, Notes: plan.Notes}
	for _, change := range plan.Changes {
		told := slices.ContainsFunc(r.Directories, func(other initDirectory) bool { return slices.Contains(other.Changes, change) })
		if !told {
			d.Changes = append(d.Changes, change)
		}
	}
	r.Changed = r.Changed || len(d.Changes) > 0
	r.Directories = append(r.Directories, d)
}

func (r *initReport) print(env environment, format string) error {
	if format == "json" {
		encoder := json.NewEncoder(env.Stdout)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(r); err != nil {
			return fmt.Errorf("the report can't be printed: %w", err)
		}
		return nil
	}
	var b strings.Builder
	for _, d := range r.Directories {
		fmt.Fprintf(&b, "%s (%s)\n", visible(d.Path), visible(d.For))
		for _, change := range d.Changes {
			fmt.Fprintf(&b, "  %s\n", visible(change))
		}
		if len(d.Changes) == 0 {
			fmt.Fprintf(&b, "  nothing to do\n")
		}
		if len(d.Readers) > 0 {
			fmt.Fprintf(&b, "  readers: %s\n", visible(strings.Join(d.Readers, ", ")))
		}
		for _, note := range d.Notes {
			fmt.Fprintf(&b, "  note: %s\n", visible(note))
		}
	}
	switch {
	case !r.Changed:
		fmt.Fprintf(&b, "Everything is as it should be; nothing was changed.\n")
	case r.DryRun:
		fmt.Fprintf(&b, "Nothing was changed, because of --dry-run.\n")
	default:
		fmt.Fprintf(&b, "Done.\n")
	}
	if _, err := env.Stdout.Write([]byte(b.String())); err != nil {
		return fmt.Errorf("the report can't be printed: %w", err)
	}
	return nil
}

// visibleError is an error that may name files of a stranger's.
type visibleError struct{ err error }

func (e *visibleError) Error() string { return visible(e.err.Error()) }
func (e *visibleError) Unwrap() error { return e.err }

// visible returns a line in which whatever could move the cursor, end the line or
// turn the direction of writing is escaped: some names in it are a stranger's.
func visible(line string) string {
	if utf8.ValidString(line) && !strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return line
	}
	quoted := strconv.Quote(line)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
