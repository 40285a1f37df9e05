package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/gravitational/trace"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

// The questions about a discovery service.
const (
	verbPlan    = "plan"
	verbApply   = "apply"
	verbExplain = "explain"
	verbAdopt   = "adopt"
	verbPurge   = "purge"
	verbOwner   = "owner"
)

// question is what a command wants to know of, or have done by, a discovery
// service. It's answered by the running agent, or by the command itself where
// none runs: the answer is the same.
type question struct {
	Verb string `json:"verb"`
	// Service is the service's name.
	Service string `json:"service"`
	// Config is the text of the command's configuration file, and File its
	// name. An agent that runs with another one answers for this one what only
	// looks, and refuses the rest.
	Config string `json:"config,omitempty"`
	File   string `json:"file,omitempty"`
	// Workload is what to explain.
	Workload string `json:"workload,omitempty"`
	// Kind and Name are what to adopt.
	Kind resource.Kind `json:"kind,omitempty"`
	Name string        `json:"name,omitempty"`
	// From is the owner that gives the resource up.
	From string `json:"from,omitempty"`
	// Bot is the bot's name where it hasn't joined yet.
	Bot string `json:"bot,omitempty"`
	// Acknowledge is the hash of the deletions that are meant.
	Acknowledge string `json:"acknowledge,omitempty"`
	// Write says that something is to be done.
	Write bool `json:"write,omitempty"`
	// Color asks for a coloured text.
	Color bool `json:"color,omitempty"`
}

// reply is the answer.
type reply struct {
	// Text is for people, Data for programs.
	Text string          `json:"text"`
	Data json.RawMessage `json:"data"`
	// Code is the command's exit code.
	Code int `json:"code"`
	// Notes say what the answer rests on.
	Notes []string `json:"notes,omitempty"`
}

// looksOnly says whether a question changes nothing.
func (q question) looksOnly() bool {
	switch q.Verb {
	case verbPlan, verbExplain, verbOwner:
		return true
	case verbAdopt, verbPurge:
		return !q.Write
	default:
		return false
	}
}

// newReply writes data as JSON and, with show, as text.
func newReply(data any, code int, show func(*page), q question) (*reply, error) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(data); err != nil {
		return nil, trace.Wrap(err)
	}
	w := &page{color: q.Color, now: time.Now()}
	show(w)
	return &reply{Text: w.String(), Data: json.RawMessage(bytes.TrimSpace(body.Bytes())), Code: code}, nil
}

// keyOf reads KIND/NAME. A kind may be written as Teleport's tctl has it.
func keyOf(text string) (resource.Key, error) {
	kind, name, found := strings.Cut(text, "/")
	for _, known := range resource.Kinds() {
		if found && name != "" && strings.EqualFold(kind, string(known)) {
			return resource.Key{Kind: known, Name: name}, nil
		}
	}
	return resource.Key{}, failure.New(failure.Configuration,
		"%q isn't KIND/NAME, such as app/grafana; kinds are app, db, kube_cluster and windows_desktop", text)
}
