package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"rollcall/config"
	"rollcall/discovery/registry"
	"rollcall/discovery/settings"
	"rollcall/failure"
)

func newDiscoveryRolesCommand(env environment, g *globals) *cobra.Command {
	c := &discoveryCommand{env: env, global: g}
	var bot string
	cmd := &cobra.Command{
		Use:   "roles",
		Short: "Print the smallest Teleport role for a discovery service",
		Long: `roles prints the role that a service needs, and no more: the kinds that it writes,
limited to resources that bear its owner's label, so that the cluster itself keeps
it from everything else. "tctl create -f" takes it as it is.

The owner is made of the bot's name, this host's id (made now, in the storage, if
there's none yet) and the service's name, unless the file gives one. So run it on
the host, as the agent's user, and name the bot with --bot if it hasn't joined.

Exit codes: 0 printed; others as with plan.`,
		Example: `  rollcall discovery roles --bot web | tctl create -f
  tctl bots add web --roles=web-registrar`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.format != "yaml" && c.format != "json" {
				return &usageError{fmt.Errorf("--format %q isn't yaml or json", c.format)}
			}
			name, err := botNamed(bot)
			if err != nil {
				return err
			}
			text, err := c.roles(cmd.Context(), name)
			if err != nil {
				return discoveryError(err)
			}
			_, err = fmt.Fprint(env.Stdout, text)
			return err
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&c.format, "format", "yaml", "print as `yaml or json`")
	cmd.Flags().StringVar(&bot, "bot", "", "the bot's `name`, if it hasn't joined yet")
	return cmd
}

// botNamed is the bot's name as its user's name will have it. That is in the
// owner, which roles compare: with another one the service could write nothing.
func botNamed(text string) (string, error) {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	name := strings.TrimPrefix(text, "bot-") // somebody gave the user's name
	switch {
	case text == "":
		return "", nil
	case name == "" || len(name) > maxBotName:
		return "", &usageError{fmt.Errorf("--bot %q is no bot's name: give the one of `tctl bots ls`, of at most %d characters", shortened(text), maxBotName)}
	case strings.Trim(name, allowed+" ") == "" && strings.Contains(name, " "):
		return "", &usageError{fmt.Errorf("--bot %q: Teleport turns spaces into hyphens; give %q, to `tctl bots add`, too", text, strings.ReplaceAll(name, " ", "-"))}
	case strings.Trim(name, allowed) != "":
		return "", &usageError{fmt.Errorf("--bot %q: a bot's name may only have letters, digits and . _ - here, since it's part of the label rollcall/owner", shortened(text))}
	}
	return name, nil
}

// maxBotName keeps the owner fit for a label.
const maxBotName = 100

// roles renders the role of a service.
func (c *discoveryCommand) roles(ctx context.Context, bot string) (string, error) {
	cfg, _, err := c.load()
	if err != nil {
		return "", err
	}
	name, err := c.chosen(cfg)
	if err != nil {
		return "", err
	}
	options, err := discoverySettings(cfg, name)
	if err != nil {
		return "", err
	}
	owner := options.Owner
	if owner == "" {
		r, err := c.ask(ctx, question{Verb: verbOwner, Bot: bot})
		if err != nil {
			return "", err
		}
		owner = strings.TrimSpace(r.Text)
	}
	o := registry.RoleOptions{Name: roleName(options), Owner: owner, Lease: options.Owner != "", Agent: options.Register == settings.RegisterAgent}
	if !o.Agent {
		o.Dynamic = options.Kinds
	}
	role, warnings, err := registry.Role(o)
	if err != nil {
		return "", trace.Wrap(err)
	}
	if c.format == "json" {
		for _, warning := range warnings {
			fmt.Fprintf(c.env.Stderr, "warning: %s\n", warning)
		}
		return roleJSON(role)
	}
	return roleYAML(role, warnings, bot)
}

// roleName is the role's name: the one that the service asks for, or one made of
// the service's.
func roleName(o *settings.Options) string {
	if len(o.Roles) == 1 {
		return o.Roles[0]
	}
	return o.Name + "-registrar"
}

func roleJSON(role types.Role) (string, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(role)
	return b.String(), trace.Wrap(err)
}

// roleYAML writes what a person would: what is empty is left out, and the rest
// is in a known order.
func roleYAML(role types.Role, warnings []string, bot string) (string, error) {
	text, err := roleJSON(role)
	if err != nil {
		return "", err
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil { // JSON is YAML, and nodes keep its order
		return "", trace.Wrap(err)
	}
	root := document.Content[0]
	spec := child(root, "spec")
	keep(spec, "allow")
	prune(root)
	restyle(root)
	body, err := yaml.Marshal(root)
	if err != nil {
		return "", trace.Wrap(err)
	}
	var b strings.Builder
	for _, warning := range warnings {
		fmt.Fprintf(&b, "# %s\n", warning)
	}
	if bot == "" {
		bot = "NAME"
	}
	fmt.Fprintf(&b, "# The bot with this role:  tctl bots add %s --roles=%s\n%s", bot, role.GetName(), body)
	return b.String(), nil
}

// child is a value of a mapping; an empty node if there's none.
func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return new(yaml.Node)
}

// keep leaves one key in a mapping.
func keep(n *yaml.Node, key string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = n.Content[i : i+2]
			return
		}
	}
}

// prune removes what is empty, and reports whether n is.
func prune(n *yaml.Node) (empty bool) {
	switch n.Kind {
	case yaml.MappingNode:
		var left []*yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !prune(n.Content[i+1]) {
				left = append(left, n.Content[i], n.Content[i+1])
			}
		}
		n.Content = left
		return len(left) == 0
	case yaml.SequenceNode:
		for _, item := range n.Content {
			prune(item)
		}
		return len(n.Content) == 0
	default:
		return n.ShortTag() == "!!null" || n.Value == ""
	}
}

// restyle turns JSON's style into YAML's: short lists stay on one line.
func restyle(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.SequenceNode && (len(n.Content) == 0 || n.Content[0].Kind == yaml.ScalarNode) {
		n.Style = yaml.FlowStyle
	}
	for _, item := range n.Content {
		restyle(item)
	}
}

// ownerReply tells whose a service's resources are, or will be.
func (a *agent) ownerReply(cfg *config.Config, q question) (*reply, error) {
	options, err := discoverySettings(cfg, q.Service)
	if err != nil {
		return nil, err
	}
	owner := options.Owner
	if owner == "" {
		bot := a.botName()
		switch {
		case bot == "":
			bot = q.Bot
		case q.Bot != "" && q.Bot != bot:
			return nil, failure.New(failure.Configuration, "the storage holds the identity of the bot %q, not %q: the owner will have that bot's name", bot, q.Bot)
		}
		if bot == "" {
			return nil, failure.New(failure.Configuration, "the bot hasn't joined yet, and its name is part of the owner: name it with --bot")
		}
		host, err := a.hostID()
		if err != nil {
			return nil, trace.Wrap(err)
		}
		owner = ownerLabel(bot, host, options.Name)
	}
	return newReply(map[string]string{"owner": owner}, exitOK, func(w *page) { w.line("%s", owner) }, q)
}
