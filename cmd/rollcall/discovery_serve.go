package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"time"

	"github.com/gravitational/trace"

	"rollcall/config"
	"rollcall/failure"
)

// discoveryPath is where questions are put on the status socket. It isn't served
// on diag_addr, where anybody could have resources deleted.
const discoveryPath = "/discovery"

// maxQuestion bounds a question: it holds a configuration file.
const maxQuestion = 2 << 20

// carried is an error on its way from the agent to the command. The kind is a
// number: as text it couldn't be read back.
type carried struct {
	Kind  uint8  `json:"kind"`
	Error string `json:"error"`
}

// serveDiscovery answers the questions of `rollcall discovery`.
func (a *agent) serveDiscovery(env environment) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The server's own limits are for questions that take no time.
		control := http.NewResponseController(w)
		deadline := time.Now().Add(discoveryTimeout)
		_ = control.SetReadDeadline(deadline)
		_ = control.SetWriteDeadline(deadline)
		var q question
		if err := json.NewDecoder(io.LimitReader(r.Body, maxQuestion)).Decode(&q); err != nil {
			carry(w, failure.New(failure.Configuration, "the question can't be understood: the command and the running agent should be of one version"))
			return
		}
		ctx, cancel := context.WithDeadline(r.Context(), deadline)
		defer cancel()
		answer, err := a.answerDiscovery(ctx, env, q)
		if err != nil {
			carry(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		// Whoever asked has gone: there is nobody left to tell.
		_ = json.NewEncoder(w).Encode(answer)
	})
}

func carry(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnprocessableEntity)
	_ = json.NewEncoder(w).Encode(carried{uint8(failure.KindOf(err)), err.Error()})
}

// carriedError is the error that an agent answered with.
func carriedError(answer []byte, socket string) error {
	var c carried
	if err := json.Unmarshal(answer, &c); err != nil || c.Error == "" {
		return failure.New(failure.Transient, "the agent at %s gave an answer that can't be understood", socket)
	}
	return failure.New(failure.Kind(c.Kind), "%s", c.Error)
}

// answerDiscovery answers with a service that is made for the question and only
// looks: the one that runs is busy. What changes something is handed to the one
// that runs, if it's the one that the command's file means.
func (a *agent) answerDiscovery(ctx context.Context, env environment, q question) (*reply, error) {
	asked, err := readAsked(q)
	if err != nil {
		return nil, err
	}
	runner := a.discoveries[q.Service]
	same := runner != nil && reflect.DeepEqual(runner.config.Options, asked.service(q.Service))
	switch {
	case q.Verb == verbPurge && q.Write && runner != nil:
		return nil, failure.New(failure.Configuration,
			"the running agent would register everything again: stop it, purge, and only then take the service %s out of the configuration", q.Service)
	case !q.looksOnly() && !same:
		return nil, failure.New(failure.Configuration,
			"the agent runs with another %q than %s has: restart it first, so that both mean the same", q.Service, q.File)
	case q.Verb == verbOwner:
		return a.ownerReply(asked.Config, q)
	}
	look, err := a.buildDiscovery(ctx, asked.Config, q.Service, env, looking)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	defer look.close()
	if same {
		look.running = runner.get()
	}
	if q.Verb == verbApply {
		return runner.apply(ctx, look, q)
	}
	answer, err := look.answer(ctx, q)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	if !same {
		answer.Notes = append(answer.Notes, "the agent runs with another configuration of "+q.Service+"; this is the answer for "+q.File+", with which a restart would go on")
	}
	return answer, nil
}

// askedConfig is the command's configuration.
type askedConfig struct{ *config.Config }

// readAsked reads the configuration of the question.
func readAsked(q question) (*askedConfig, error) {
	cfg, err := config.Parse(q.File, []byte(q.Config))
	if err != nil {
		return nil, err
	}
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	return &askedConfig{cfg}, nil
}

// service returns the options of a service; nil: there's none of that name.
func (c *askedConfig) service(name string) config.ServiceOptions {
	for _, s := range c.Services {
		if s.Name == name {
			return s.Options
		}
	}
	return nil
}
