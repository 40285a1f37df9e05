package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"rollcall/service"
)

// Exit codes of the discovery commands, which answer a question of their own, as
// status does. 1, 4 and 5 mean what they mean everywhere.
const (
	discoveryChanges = 2
	discoveryBlocked = 3
	discoveryFailed  = 6
	discoveryRefused = 7
)

// discoveryCodes is part of every discovery command's help.
const discoveryCodes = `Exit codes: 0 nothing is to be done; 2 changes; 3 something is blocked or in
conflict and needs a person. Errors: 1 the configuration or the command line is
wrong; 4 the cluster can't be reached, or can't be trusted; 5 the storage is in
use or unusable; 6 something else failed; 7 the cluster refused.`

// whoAnswers is part of the help of the commands that ask the agent.
const whoAnswers = `The running agent answers, over the socket that status uses. If none runs, the
command takes the agent's storage for as long as it needs, joins or renews as
the agent would, and must be run as the agent's user. Either way one process
works with the bot's identity, so that nothing locks the bot.`

func newDiscoveryCommand(env environment, g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "discovery",
		Short: "Show, explain and apply what discovery services register",
		Long: `discovery is about services of type discovery, which keep what is registered with
Teleport in agreement with what runs. docs/discovery.md tells how.

The service itself runs with "rollcall start"; these commands look at it.

` + whoAnswers + `

` + discoveryCodes,
		Example: `  rollcall discovery plan
  rollcall discovery explain docker/web
  rollcall discovery roles --bot web > role.yaml && tctl create -f role.yaml`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newDiscoveryPlanCommand(env, g),
		newDiscoveryApplyCommand(env, g),
		newDiscoveryExplainCommand(env, g),
		newDiscoveryAdoptCommand(env, g),
		newDiscoveryPurgeCommand(env, g),
		newDiscoveryRolesCommand(env, g),
	)
	return cmd
}

// discoveryFlags are those of every command that asks a service.
func (c *discoveryCommand) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&c.service, "service", "", "the discovery service with this `name`; needed if there are several")
	flags.StringVar(&c.where.socket, "socket", "", "ask the agent over this `socket`")
	flags.StringVar(&c.where.name, "name", "", "ask the agent of the systemd unit with this `name`")
	cmd.MarkFlagsMutuallyExclusive("socket", "name")
}

func (c *discoveryCommand) formatFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.format, "format", "table", "print as `table or json`")
}

// run asks and prints.
func (c *discoveryCommand) run(cmd *cobra.Command, q question) error {
	if c.format != "table" && c.format != "json" {
		return &usageError{fmt.Errorf("--format %q isn't table or json", c.format)}
	}
	q.Color = service.UseColor(c.env.Stdout, c.env.Getenv("NO_COLOR"))
	r, err := c.ask(cmd.Context(), q)
	if err != nil {
		return discoveryError(err)
	}
	return c.print(r)
}

// discoveryError gives an error the code that it has in these commands: 2 and 3
// are answers here.
func discoveryError(err error) error {
	switch code := exitCode(err); code {
	case exitFailed:
		return &codedError{err: err, code: discoveryFailed}
	case exitRefused:
		return &codedError{err: err, code: discoveryRefused}
	default:
		return err
	}
}

func newDiscoveryPlanCommand(env environment, g *globals) *cobra.Command {
	c := &discoveryCommand{env: env, global: g}
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what a discovery service would do now",
		Long: `plan reads the source and the cluster, and shows what the service would create,
update and delete, each with its reason. It writes nothing.

With another configuration file than the agent runs with, it shows what the
service would do after a restart with that file.

` + whoAnswers + `

` + discoveryCodes,
		Example: `  rollcall discovery plan -c /etc/rollcall.yaml
  rollcall discovery plan --service web --format json | jq '.actions[] | {op, key, reason}'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd, question{Verb: verbPlan}) },
	}
	c.flags(cmd)
	c.formatFlag(cmd)
	return cmd
}

func newDiscoveryApplyCommand(env environment, g *globals) *cobra.Command {
	c := &discoveryCommand{env: env, global: g}
	var acknowledge string
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Compare and apply once, now",
		Long: `apply does one full comparison now and applies it, as the service does by itself
every interval and after each event.

Deletions beyond the budget (guard.max_delete) stop and wait for a person. plan
then prints a hash that stands for exactly these deletions; --acknowledge with
that hash has them done. If the deletions have changed since, the hash doesn't
fit any more and nothing happens.

It waits for the grace of absent workloads (guard.settle and guard.absent_for); a
running agent's for no longer than a minute.

` + whoAnswers + `

Exit codes: 0 all is as it should be now; 2 something is left that time alone
will let go (an absent workload's grace); 3 something is blocked or in conflict
and needs a person; 6 something failed. Others as with plan.`,
		Example: `  rollcall discovery apply
  rollcall discovery apply --acknowledge 0f3a9c2b41de`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.run(cmd, question{Verb: verbApply, Acknowledge: acknowledge, Write: true})
		},
	}
	c.flags(cmd)
	c.formatFlag(cmd)
	cmd.Flags().StringVar(&acknowledge, "acknowledge", "", "have the frozen deletions done that this `hash` of plan stands for")
	return cmd
}

func newDiscoveryExplainCommand(env environment, g *globals) *cobra.Command {
	c := &discoveryCommand{env: env, global: g}
	cmd := &cobra.Command{
		Use:   "explain SOURCE/NAME",
		Short: "Tell why a container is registered, or why it isn't",
		Long: `explain takes one workload of the source and shows each rule that it passed, the
first that it failed, the resource that comes of it, and what stands between
that and the cluster. A container goes by its name, the beginning of its id, or
its workload (compose project and service).

` + whoAnswers + `

Exit codes: 0 it's registered as it should be; 2 it will be changed; 3 it isn't
registered, and the first failed rule says why. Errors as with plan.`,
		Example: `  rollcall discovery explain docker/web
  rollcall discovery explain file/grafana --format json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{fmt.Errorf("name one workload, such as docker/web; see `%s --help`", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd, question{Verb: verbExplain, Workload: args[0]})
		},
	}
	c.flags(cmd)
	c.formatFlag(cmd)
	return cmd
}
