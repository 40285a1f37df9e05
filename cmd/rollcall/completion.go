package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"rollcall/config"
)

func newCompletionCommand(env environment) *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that completes commands and flags in a shell",
		Long: `completion prints a script for a shell, which then completes rollcall's commands
and flags. bash needs its package bash-completion.`,
		Example: `  # For this shell
  source <(rollcall completion bash)

  # For all
  rollcall completion bash > /etc/bash_completion.d/rollcall
  rollcall completion zsh > "${fpath[1]}/_rollcall"
  rollcall completion fish > ~/.config/fish/completions/rollcall.fish`,
		ValidArgs: shells,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{errors.New("name one shell: bash, zsh or fish, as in `rollcall completion bash`")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(env.Stdout, true)
			case "zsh":
				return root.GenZshCompletion(env.Stdout)
			case "fish":
				return root.GenFishCompletion(env.Stdout, true)
			default:
				return &usageError{fmt.Errorf("unknown shell %q; %s", args[0], suggestion(config.Nearest(args[0], shells), "it's bash, zsh or fish"))}
			}
		},
	}
}
