package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rollcall/config"
	"rollcall/diagnostics"
	"rollcall/failure"
)

// Exit codes of status, which answers a question of its own.
const (
	statusHealthy    = 0
	statusDegraded   = 1
	statusNotRunning = 2
	// statusUnasked says that nobody was asked: the command line or the
	// configuration is wrong.
	statusUnasked = 3
)

// exitCodeOf is exitCode, but for status, where 1 and 2 say something else than
// that the question is wrong.
func exitCodeOf(cmd *cobra.Command, err error) int {
	var shown *shownError
	if cmd != nil && cmd.Name() == statusName && !asShown(err, &shown) {
		return statusUnasked
	}
	return exitCode(err)
}

const statusName = "status"

// statusTimeout bounds the wait for an agent that doesn't answer.
const statusTimeout = 5 * time.Second

func newStatusCommand(env environment, g *globals) *cobra.Command {
	var where whereabouts
	var format string
	cmd := &cobra.Command{
		Use:   statusName,
		Short: "Show what the running agent does",
		Long: `status asks the agent that runs on this host, and shows the bot's identity and,
for each service, its state, when its certificate ends, when it's renewed next,
and its last error.

The agent is asked over a socket that only root and the agent's own user can
use: in the storage that the configuration names, or in /run/rollcall where
systemd runs it. With --diag-addr it's asked over HTTP, as any user.

Exit codes: 0 all is well; 1 the agent runs, but something needs attention;
2 no agent answers; 3 the command line or the configuration is wrong.`,
		Example: `  # The agent of /etc/rollcall.yaml, or of the unit rollcall.service
  rollcall status

  # The agent of the unit grafana-bot.service
  rollcall status --name grafana-bot

  # For a monitoring script
  rollcall status --format json | jq -r '.services[] | select(.ready | not) | .name'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "text" && format != "json" {
				return &usageError{fmt.Errorf("--format %q isn't text or json", format)}
			}
			overview, err := where.ask(cmd.Context(), env, g)
			if failure.KindOf(err) == failure.Configuration {
				return err
			}
			return showStatus(env, format, overview, err)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&where.diagAddr, "diag-addr", "", "ask the agent with this diag_addr, `host:port`")
	flags.StringVar(&where.socket, "socket", "", "ask over this `socket`")
	flags.StringVar(&where.name, "name", "", "ask the agent of the systemd unit with this `name`")
	flags.StringVar(&format, "format", "text", "print as `text or json`")
	cmd.MarkFlagsMutuallyExclusive("diag-addr", "socket", "name")
	return cmd
}

// showStatus prints an overview, or that there is none.
func showStatus(env environment, format string, overview *diagnostics.Overview, err error) error {
	if format == "json" {
		if printErr := statusJSON(env.Stdout, overview, err); printErr != nil {
			return printErr
		}
	}
	if err != nil {
		if format == "text" {
			fmt.Fprintln(env.Stderr, "rollcall:", err)
		}
		return &shownError{err: err, code: statusNotRunning}
	}
	if format == "text" {
		if err := overview.WriteText(env.Stdout, time.Now()); err != nil {
			return err
		}
	}
	if !overview.Healthy {
		return &shownError{err: errors.New("something needs attention"), code: statusDegraded}
	}
	return nil
}

func statusJSON(w io.Writer, overview *diagnostics.Overview, err error) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err != nil {
		return encoder.Encode(struct {
			Running bool   `json:"running"`
			Healthy bool   `json:"healthy"`
			Error   string `json:"error"`
		}{Error: err.Error()})
	}
	return encoder.Encode(struct {
		Running bool `json:"running"`
		*diagnostics.Overview
	}{true, overview})
}

// whereabouts say which agent to ask.
type whereabouts struct{ diagAddr, socket, name string }

// path is the socket that is named; empty: none is.
func (w whereabouts) path() string {
	switch {
	case w.socket != "":
		return w.socket
	case w.name != "":
		return filepath.Join("/run", filepath.Base(w.name), statusSocket)
	}
	return ""
}

// ask finds the agent and asks it. An error of kind Configuration is about the
// question; any other says that no agent answers.
func (w whereabouts) ask(ctx context.Context, env environment, g *globals) (*diagnostics.Overview, error) {
	switch {
	case w.diagAddr != "":
		return ask(ctx, "tcp", w.diagAddr)
	case w.path() != "":
		return ask(ctx, "unix", w.path())
	}
	explicit := g.configPath != "" || env.Getenv("TBOT_CONFIG_PATH") != ""
	cfg, err := config.Load(g.path(env, false))
	if err != nil {
		if explicit {
			return nil, err
		}
		// Without a configuration that this user may read, there is one place.
		return ask(ctx, "unix", defaultSocket)
	}
	return askAgentOf(ctx, cfg, env)
}

// defaultSocket is where the unit that `rollcall install systemd` writes has
// its runtime directory.
const defaultSocket = "/run/rollcall/" + statusSocket

// askAgentOf asks the agent that uses the configuration's storage. The agent of
// another configuration isn't the one that was meant.
func askAgentOf(ctx context.Context, cfg *config.Config, env environment) (*diagnostics.Overview, error) {
	places := []string{statusPath(env, cfg.Storage), defaultSocket}
	var first error
	for _, place := range places {
		if place == "" {
			continue
		}
		overview, err := ask(ctx, "unix", place)
		if err == nil && overview.Storage == cfg.Storage.String() {
			return overview, nil
		}
		// A socket that may not be used is more of a find than none.
		if first == nil || errors.Is(err, fs.ErrPermission) {
			first = err
		}
	}
	if first == nil || errors.Is(first, fs.ErrNotExist) {
		first = failure.New(failure.Unreachable,
			"no agent with %s answers: it isn't running, or it runs as a systemd unit of another name (--name)", cfg.Storage)
	}
	return nil, first
}

// ask asks one agent.
func ask(ctx context.Context, network, address string) (*diagnostics.Overview, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	host := address
	if network == "unix" {
		host = "agent"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/status", nil)
	if err != nil {
		return nil, failure.Wrap(failure.Configuration, err, "%q isn't an address; write host:port", address)
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, failure.Wrap(failure.Refused, err,
			"%s is there, but only root and the agent's own user may ask: use one of them, or diag_addr with --diag-addr", address)
	case err != nil:
		return nil, failure.Wrap(failure.Unreachable, err, "no agent answers at %s: it isn't running, or listens elsewhere", address)
	}
	defer response.Body.Close()
	overview := new(diagnostics.Overview)
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		return nil, failure.New(failure.Unreachable, "what answers at %s isn't rollcall, or an older one", address)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 16<<20)).Decode(overview); err != nil {
		return nil, failure.Wrap(failure.Unreachable, err, "the answer of %s can't be understood: %v", address, err)
	}
	return overview, nil
}
