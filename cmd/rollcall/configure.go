package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"rollcall/config"
	"rollcall/failure"
)

func newConfigureCommand(env environment, g *globals) *cobra.Command {
	var sample config.Sample
	var output string
	cmd := &cobra.Command{
		Use:   "configure",
		Short: "Print a working configuration file",
		Long: `configure turns flags into a commented configuration file that works as it is.
It prints the file, or writes it with -o: only its owner can read it then, and
a file that's there already is left alone.

Nothing is contacted. A flag that makes no sense is refused.

Services, such as local proxies (tunnels) and discovery, have no flags: add them
to the file's services, as docs/local-proxy.md and docs/discovery.md show.`,
		Example: `  # Credentials for one application, to standard output
  rollcall configure --proxy-server=teleport.example.com:443 \
      --join-method=token --token=/etc/rollcall/token \
      --output-type=application --app-name=grafana --destination=/opt/machine-id

  # Into a file, with the token from systemd, for SSH and the Teleport API
  rollcall configure --proxy-server=teleport.example.com:443 \
      --join-method=token --token=credential:token --storage=/var/lib/rollcall \
      --output-type=identity --destination=/opt/machine-id -o /etc/rollcall.yaml

  # In a Kubernetes pod
  rollcall configure --proxy-server=teleport.example.com:443 \
      --join-method=kubernetes --token=my-bot --storage=memory://`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sample.Debug, sample.LogFormat = g.debug, g.logFormat
			sample.Origin = origins(cmd.Flags())
			fromEnvironment(&sample.Overrides, env)
			if sample.Destination == "" {
				sample.Destination = sample.DestinationDir
			}
			sample.DestinationDir = ""
			text, err := sample.YAML()
			if err != nil {
				return err
			}
			if output == "" {
				_, err := env.Stdout.Write(text)
				return err
			}
			return writeNew(env, output, text)
		},
	}
	flags := cmd.Flags()
	startFlags(flags, &sample.Overrides)
	flags.StringVarP(&output, "output", "o", "", "write to this new `file` in place of standard output")
	flags.StringVar(&sample.OutputType, "output-type", "", "`type` of the output: application or identity")
	flags.StringVar(&sample.AppName, "app-name", "", "`name` of the application in Teleport")
	flags.BoolVar(&sample.SpecificTLSNaming, "specific-tls-naming", false, "add tls.crt, tls.key and tls.cas to the application's files")
	flags.StringArrayVar(&sample.Roles, "roles", nil, "`role` to request; may be repeated (default: all that the bot may impersonate)")
	flags.StringVar(&sample.Destination, "destination", "", "`place` of the output's files: a directory, or memory://")
	return cmd
}

// writeNew makes a file that only its owner can read, since it may hold a
// token. It never replaces one.
func writeNew(env environment, path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return failure.Wrap(failure.Configuration, err, "%s is there already: remove it first, or name another file with -o", path)
	case err != nil:
		return failure.Wrap(failure.Configuration, err, "%s can't be made: %v", path, errors.Unwrap(err))
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		// Half a configuration is worse than none.
		return failure.Wrap(failure.Configuration, errors.Join(err, os.Remove(path)), "%s can't be written: %v", path, err)
	}
	fmt.Fprintf(env.Stderr, "Wrote %s. Next: rollcall validate -c %s\n", path, path)
	return nil
}
