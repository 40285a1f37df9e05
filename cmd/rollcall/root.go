package main

import (
	"github.com/spf13/cobra"

	"rollcall/config"
)

// globals are the flags that every command takes, before or after its name, as
// the official agent does.
type globals struct {
	configPath string
	debug      bool
	logFormat  string
}

func newRootCommand(env environment) *cobra.Command {
	g := new(globals)
	root := &cobra.Command{
		Use:   "rollcall",
		Short: "A machine-identity agent for Teleport",
		Long: `rollcall joins a Teleport cluster as a Machine ID bot, keeps its short-lived
identity fresh, and writes certificates that programs use.

It reads the official agent's (tbot's) version 2 configuration as it is.`,
		Example: `  # Print a working configuration, check it, and run it
  rollcall configure --proxy-server=teleport.example.com:443 --join-method=token \
      --token=/etc/rollcall/token -o /etc/rollcall.yaml
  rollcall validate
  rollcall start

  # Fetch everything once, for a job
  rollcall start -c rollcall.yaml --oneshot`,
		// With no command it shows its help; with an unknown one it says so.
		Args:                  knownCommand,
		RunE:                  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		DisableFlagsInUseLine: true,
		SilenceUsage:          true,
		SilenceErrors:         true,
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&g.configPath, "config", "c", "", "configuration `file` (default "+config.DefaultPath+"; environment TBOT_CONFIG_PATH)")
	flags.BoolVarP(&g.debug, "debug", "d", false, "log more, with the causes of errors")
	flags.StringVar(&g.logFormat, "log-format", "", "log as `text or json` (default text)")
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(newHelpCommand())
	root.AddCommand(
		newStartCommand(env, g),
		newInitCommand(env, g),
		newValidateCommand(env, g),
		newConfigureCommand(env, g),
		newProxyCommand(env, g),
		newHooksCommand(env, g),
		newDiscoveryCommand(env, g),
		newStatusCommand(env, g),
		newInstallCommand(env, g),
		newVersionCommand(env),
		newCompletionCommand(env),
	)
	return root
}

// path is the configuration file to read: the flag's, the environment's, or the
// default one. With a server in the flags and no file named there's none: the
// official agent can be run by flags alone.
func (g *globals) path(env environment, serverGiven bool) string {
	if g.configPath != "" {
		return g.configPath
	}
	if p := env.Getenv("TBOT_CONFIG_PATH"); p != "" {
		return p
	}
	if serverGiven {
		return ""
	}
	return config.DefaultPath
}
