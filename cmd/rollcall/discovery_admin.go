package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newDiscoveryAdoptCommand(env environment, g *globals) *cobra.Command {
	c := &discoveryCommand{env: env, global: g}
	var identity, from string
	var yes bool
	cmd := &cobra.Command{
		Use:   "adopt KIND/NAME",
		Short: "Take over a resource that somebody else has registered",
		Long: `adopt is for a name that a workload asks for and that is registered already: a
conflict, which discovery never settles by itself. It shows what would change,
and with --yes makes the resource the service's own.

The service's role can't touch it, because the cluster limits that role to
resources that bear its owner's label. So --yes needs the identity of somebody
who may (--identity, a file of "tctl auth sign" or "tsh login --out"); without
it the change is printed for an administrator to make.

` + whoAnswers + `

` + discoveryCodes,
		Example: `  # Look, and see what to ask an administrator for
  rollcall discovery adopt app/grafana

  # Do it
  rollcall discovery adopt app/grafana --identity admin.pem --yes`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{fmt.Errorf("name one resource, such as app/grafana; see `%s --help`", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := keyOf(args[0])
			if err != nil {
				return err
			}
			if yes && identity == "" {
				return &usageError{fmt.Errorf("--yes needs --identity: the service's own role can't touch what isn't its own")}
			}
			c.identity = identity
			return c.run(cmd, question{Verb: verbAdopt, Kind: key.Kind, Name: key.Name, From: from, Write: yes})
		},
	}
	c.flags(cmd)
	c.formatFlag(cmd)
	cmd.Flags().StringVar(&identity, "identity", "", "work as the identity in this `file`, an administrator's")
	cmd.Flags().StringVar(&from, "from", "", "the `owner` (label rollcall/owner) that gives it up: another agent, which is gone for good; or, if the owner is the same, the source (label rollcall/source) of another service that is")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it; else it's only shown")
	return cmd
}

func newDiscoveryPurgeCommand(env environment, g *globals) *cobra.Command {
	c := &discoveryCommand{env: env, global: g}
	var yes bool
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Deregister everything that a discovery service has registered",
		Long: `purge is for the end of a service: it deletes all that bears the service's owner
label, but for what is marked to be kept (rollcall/keep), and nothing else.
Without --yes it shows what that would be. Removing a service from the
configuration alone deletes nothing.

While the agent runs with the service, the service would register everything
again: stop it first, then purge with the configuration that still has the
service.

` + whoAnswers + `

` + discoveryCodes,
		Example: `  rollcall discovery purge --service web
  rollcall discovery purge --service web --yes`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.run(cmd, question{Verb: verbPurge, Write: yes})
		},
	}
	c.flags(cmd)
	c.formatFlag(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do it; else it's only shown")
	return cmd
}
