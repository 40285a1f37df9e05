package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"rollcall/config"
)

func newValidateCommand(env environment, g *globals) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "validate",
		Short: "Check a configuration file",
		Long: `validate reads a configuration file and says everything that is wrong with it,
each with file:line:column and, for a slip of the pen, what was probably meant.

It doesn't touch the network, and of the disk it reads that one file: a path
that the file names need not exist. What a valid file needs beside it, such as
the rights of a hook, it says as a note, and also what it opens to others: an
address, or the file of a bearer_token (its mode, if it's there already).

Exit codes: 0 the file is valid; 1 it isn't.`,
		Example: `  # Before a restart
  rollcall validate -c /etc/rollcall.yaml && systemctl restart rollcall

  # For a pipeline or an editor
  rollcall validate -c rollcall.yaml --format json | jq -r '.errors[] | "\(.line): \(.message)"'`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			path := g.path(env, false)
			switch format {
			case "text":
				return validateText(env, path)
			case "json":
				return validateJSON(env, path)
			default:
				return &usageError{fmt.Errorf("--format %q isn't text or json", format)}
			}
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "print as `text or json`")
	return cmd
}

// validateText prints a line for a valid file, and leaves errors to whoever
// prints the errors of all commands, but for a list of them: its lines begin
// with the file's name, so that editors can jump there.
func validateText(env environment, path string) error {
	cfg, err := config.Load(path)
	var all config.Errors
	switch {
	case errors.As(err, &all):
		fmt.Fprintln(env.Stderr, all)
		return &shownError{err: err, code: exitConfiguration}
	case err != nil:
		return err
	}
	fmt.Fprintf(env.Stdout, "%s is valid: %s, storage %s\n", path, countItems(cfg), cfg.Storage)
	for _, note := range notesOn(cfg) {
		fmt.Fprintf(env.Stdout, "note: %s\n", note)
	}
	return nil
}

// notesOn are the notes on the file, and on what stands beside it.
func notesOn(cfg *config.Config) []config.Note {
	return append(cfg.Notes(), exposedNotes(cfg)...)
}

// countItems counts the outputs and, where there are any, the services.
func countItems(cfg *config.Config) string {
	text := count(len(cfg.Outputs), "output")
	if len(cfg.Services) > 0 {
		text += ", " + count(len(cfg.Services), "service")
	}
	return text
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// verdict is what validate prints as JSON; its names don't change.
type verdict struct {
	File    string          `json:"file"`
	Valid   bool            `json:"valid"`
	Outputs []verdictOutput `json:"outputs,omitempty"`
	// Services are what writes no files.
	Services []verdictService `json:"services,omitempty"`
	Storage  string           `json:"storage,omitempty"`
	Notes    []config.Note    `json:"notes,omitempty"`
	Errors   []*config.Error  `json:"errors,omitempty"`
}

type verdictOutput struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Destination string `json:"destination"`
}

type verdictService struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

func validateJSON(env environment, path string) error {
	cfg, err := config.Load(path)
	v := verdict{File: path, Valid: err == nil}
	if err != nil {
		v.Errors = errorsOf(path, err)
	} else {
		v.Storage, v.Notes = cfg.Storage.String(), notesOn(cfg)
		for _, out := range cfg.Outputs {
			v.Outputs = append(v.Outputs, verdictOutput{out.Name, out.Type, out.Destination.String()})
		}
		for _, s := range cfg.Services {
			v.Services = append(v.Services, verdictService{s.Name, s.Type})
		}
	}
	encoder := json.NewEncoder(env.Stdout)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if writeErr := encoder.Encode(v); writeErr != nil {
		return fmt.Errorf("the verdict can't be printed: %w", writeErr)
	}
	if err != nil {
		return &shownError{err: err, code: exitConfiguration}
	}
	return nil
}

// errorsOf returns the list in err, or err itself where the file couldn't even
// be read.
func errorsOf(path string, err error) []*config.Error {
	var all config.Errors
	if errors.As(err, &all) {
		return all
	}
	return []*config.Error{{File: path, Message: err.Error()}}
}
