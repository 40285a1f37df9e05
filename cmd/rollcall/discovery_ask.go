package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gravitational/trace"

	"rollcall/config"
	"rollcall/discovery/settings"
	"rollcall/failure"
)

// discoveryTimeout bounds a question: thousands of resources may have to be
// written for its answer.
const discoveryTimeout = 15 * time.Minute

// discoveryCommand is what the commands about discovery have in common.
type discoveryCommand struct {
	env    environment
	global *globals
	// service is the service's name; empty: the only one.
	service string
	// format is table or json.
	format string
	// where is the running agent, if it isn't found by the configuration.
	where whereabouts
	// identity is the file of an administrator's identity; empty: none.
	identity string
}

// ask has a question answered: by the agent that runs with the configuration's
// storage, or else by this process, which then takes the storage for as long as
// that lasts. It's never both: the bot's identity belongs to one process, and a
// renewal by a second one would lock the bot.
func (c *discoveryCommand) ask(ctx context.Context, q question) (*reply, error) {
	cfg, text, err := c.load()
	if err != nil {
		return nil, err
	}
	if q.Service, err = c.chosen(cfg); err != nil {
		return nil, err
	}
	q.Config, q.File = string(text), cfg.File
	ctx, cancel := context.WithTimeout(ctx, discoveryTimeout)
	defer cancel()
	socket, err := c.socket(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if c.identity != "" {
		return c.adoptAs(ctx, cfg, socket, q)
	}
	return c.askAgent(ctx, cfg, socket, q)
}

// askAgent has the agent at the socket answer; where there's none, this process.
func (c *discoveryCommand) askAgent(ctx context.Context, cfg *config.Config, socket string, q question) (*reply, error) {
	if socket != "" {
		return askDiscovery(ctx, socket, q)
	}
	return c.answerHere(ctx, cfg, q)
}

// load reads the configuration, and keeps its text.
func (c *discoveryCommand) load() (*config.Config, []byte, error) {
	cfg, err := config.Load(c.global.path(c.env, false))
	if err != nil {
		return nil, nil, err
	}
	text, err := os.ReadFile(cfg.File)
	if err != nil {
		return nil, nil, failure.Wrap(failure.Configuration, err, "the configuration file %s can't be read a second time", cfg.File)
	}
	return cfg, text, nil
}

// chosen is the name of the service that is meant.
func (c *discoveryCommand) chosen(cfg *config.Config) (string, error) {
	names := discoveryNames(cfg)
	switch {
	case len(names) == 0:
		return "", failure.New(failure.Configuration, "%s has no service of type %s; docs/discovery.md shows one", cfg.File, settings.Type)
	case c.service == "" && len(names) == 1:
		return names[0], nil
	case c.service == "":
		return "", &usageError{fmt.Errorf("%s has %d services of type %s: choose one with --service (%s)", cfg.File, len(names), settings.Type, strings.Join(names, ", "))}
	}
	for _, name := range names {
		if name == c.service {
			return name, nil
		}
	}
	return "", &usageError{fmt.Errorf("there is no discovery service %q in %s; %s", c.service, cfg.File,
		suggestion(config.Nearest(c.service, names), "there is "+strings.Join(names, ", ")))}
}

func discoveryNames(cfg *config.Config) []string {
	var names []string
	for _, s := range cfg.Services {
		if s.Type == settings.Type {
			names = append(names, s.Name)
		}
	}
	return names
}

// socket finds the status socket of the agent that holds the configuration's
// storage; empty: none runs.
func (c *discoveryCommand) socket(ctx context.Context, cfg *config.Config) (string, error) {
	if path := c.where.path(); path != "" {
		return path, nil
	}
	for _, path := range []string{statusPath(c.env, cfg.Storage), defaultSocket} {
		if path == "" {
			continue
		}
		overview, err := ask(ctx, "unix", path)
		switch {
		case err == nil && overview.Storage == cfg.Storage.String():
			return path, nil
		case errors.Is(err, fs.ErrPermission):
			return "", err
		}
	}
	return "", nil
}

// answerHere answers without an agent. Whoever does so writes into the storage
// as the agent would, and so must be the same user.
func (c *discoveryCommand) answerHere(ctx context.Context, cfg *config.Config, q question) (*reply, error) {
	if err := sameUser(cfg.Storage); err != nil {
		return nil, err
	}
	log, audit := c.loggers(cfg)
	bare := *cfg
	bare.Outputs, bare.Services, bare.DiagAddr, bare.Oneshot = nil, nil, "", true
	a, err := newAgent(&bare, log, c.env)
	if err != nil {
		return nil, err
	}
	defer a.close()
	a.audit = audit
	if q.Verb == verbOwner {
		return a.ownerReply(cfg, q)
	}
	if err := a.keeper.Once(ctx); err != nil {
		return nil, trace.Wrap(err)
	}
	built, err := a.buildDiscovery(ctx, cfg, q.Service, c.env, standingIn)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	defer built.close()
	return built.answer(ctx, q)
}

// loggers returns a log of what goes wrong, since the command's output is the
// answer, and one of every write.
func (c *discoveryCommand) loggers(cfg *config.Config) (log, audit *slog.Logger) {
	audit = newLogger(c.env, string(cfg.LogFormat), c.global.debug)
	if c.global.debug {
		return audit, audit
	}
	return quieter(audit), audit
}

// sameUser refuses to work in a storage that is another user's: what this
// process writes there the agent couldn't read.
func sameUser(storage config.Destination) error {
	if storage.Directory == nil {
		return nil
	}
	info, err := os.Stat(storage.Directory.Path)
	if err != nil {
		return nil //nolint:nilerr // Who opens the storage says what is wrong with it.
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Geteuid() {
		return nil
	}
	return failure.New(failure.Configuration,
		"no agent runs, and the storage %s belongs to another user (%s): run this as that user (runuser -u USER -- rollcall …), so that the agent can read what it writes",
		storage.Directory.Path, strconv.Itoa(int(owner.Uid)))
}

// askDiscovery asks a running agent.
func askDiscovery(ctx context.Context, socket string, q question) (*reply, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+discoveryPath, bytes.NewReader(body))
	if err != nil {
		return nil, trace.Wrap(err)
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, failure.Wrap(failure.Configuration, err,
			"the agent's socket %s is there, but only root and the agent's own user may ask: use one of them", socket)
	case err != nil:
		return nil, failure.Wrap(failure.Transient, err, "the agent at %s gave no answer: %v", socket, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 256<<20))
	if err != nil {
		return nil, failure.Wrap(failure.Transient, err, "the agent at %s ended while it answered", socket)
	}
	if response.StatusCode == http.StatusNotFound {
		return nil, failure.New(failure.Configuration, "the agent at %s is of a version without discovery: restart it with this one", socket)
	}
	if response.StatusCode != http.StatusOK {
		return nil, carriedError(answer, socket)
	}
	r := new(reply)
	if err := json.Unmarshal(answer, r); err != nil {
		return nil, failure.Wrap(failure.Transient, err, "the answer of the agent at %s can't be understood: %v", socket, err)
	}
	return r, nil
}

// print prints the answer and returns the exit code as an error.
func (c *discoveryCommand) print(r *reply) error {
	for _, note := range r.Notes {
		fmt.Fprintf(c.env.Stderr, "note: %s\n", note)
	}
	text := r.Text
	if c.format == "json" {
		text = string(r.Data) + "\n"
	}
	if _, err := io.WriteString(c.env.Stdout, text); err != nil {
		return err
	}
	if r.Code == exitOK {
		return nil
	}
	return &shownError{err: errors.New("see above"), code: r.Code}
}
