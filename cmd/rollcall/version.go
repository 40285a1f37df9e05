package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"rollcall/internal/version"
)

func newVersionCommand(env environment) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Example: `  rollcall version
  rollcall version --format json | jq -r .version`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			info := version.Read()
			switch format {
			case "json":
				text, err := info.JSON()
				if err != nil {
					return err
				}
				fmt.Fprintln(env.Stdout, string(text))
			case "text":
				fmt.Fprintln(env.Stdout, info)
			default:
				return &usageError{fmt.Errorf("--format %q isn't text or json", format)}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "print as `text or json`")
	return cmd
}
