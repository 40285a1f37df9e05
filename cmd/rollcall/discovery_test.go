package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"rollcall/config"
	"rollcall/discovery"
	"rollcall/discovery/plan"
	"rollcall/discovery/registry"
	"rollcall/discovery/resource"
	"rollcall/discovery/settings"
	"rollcall/failure"
	"rollcall/identity"
)

func app(name string) resource.Key { return resource.Key{Kind: resource.KindApp, Name: name} }

func action(op plan.Op, name string) plan.Action {
	r := &resource.Resource{Kind: resource.KindApp, Name: name}
	a := plan.Action{Op: op, Key: app(name), Before: r, After: r}
	switch op {
	case plan.OpCreate:
		a.Before = nil
	case plan.OpDelete:
		a.After = nil
	}
	return a
}

func TestDiscoveryExitCodes(t *testing.T) {
	for _, test := range []struct {
		err  error
		code int
	}{
		{failure.New(failure.Configuration, "x"), 1},
		{failure.New(failure.Unreachable, "x"), 4},
		{failure.New(failure.Trust, "x"), 4},
		{identity.ErrLocked, 5},
		{identity.ErrUnusable, 5},
		{failure.New(failure.Transient, "x"), 6},
		{errors.New("x"), 6},
		{failure.New(failure.Refused, "x"), 7},
	} {
		require.Equal(t, test.code, exitCode(discoveryError(test.err)), "%v", test.err)
	}
	taken := discovery.Failure{Err: failure.New(failure.Conflict, "taken")}
	denied := discovery.Failure{Err: failure.New(failure.Refused, "denied")}
	require.Equal(t, 0, failuresCode(nil))
	require.Equal(t, 3, failuresCode([]discovery.Failure{taken}))
	require.Equal(t, 6, failuresCode([]discovery.Failure{taken, denied}))
}

// TestErrorsOnTheSocket has an error keep its kind and its sentence.
func TestErrorsOnTheSocket(t *testing.T) {
	recorder := httptest.NewRecorder()
	carry(recorder, failure.New(failure.Refused, "the role lacks create"))
	err := carriedError(recorder.Body.Bytes(), "s")
	require.Equal(t, failure.Refused, failure.KindOf(err))
	require.EqualError(t, err, "the role lacks create")
	require.Equal(t, failure.Transient, failure.KindOf(carriedError([]byte("<html>"), "s")))
}

func TestDiscoveryRefusesWhatItCantUnderstand(t *testing.T) {
	for _, body := range []string{"", "{", `{"verb": "apply", "config": "version: v9"}`} {
		recorder := httptest.NewRecorder()
		(&agent{}).serveDiscovery(environment{}).ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, discoveryPath, strings.NewReader(body)))
		require.Equal(t, http.StatusUnprocessableEntity, recorder.Code)
		require.Equal(t, failure.Configuration, failure.KindOf(carriedError(recorder.Body.Bytes(), "s")), body)
	}
}

// TestDoneBetween counts what was done, and not what merely isn't asked for any
// more.
func TestDoneBetween(t *testing.T) {
	before := plan.Plan{Actions: []plan.Action{
		action(plan.OpCreate, "made"), action(plan.OpCreate, "vanished"), action(plan.OpCreate, "denied"),
		action(plan.OpUpdate, "changed"), action(plan.OpUpdate, "unchanged"),
		action(plan.OpDelete, "gone"), action(plan.OpDelete, "back"),
	}}
	left := plan.Plan{Actions: []plan.Action{
		action(plan.OpNothing, "made"), action(plan.OpCreate, "denied"), action(plan.OpNothing, "changed"),
		action(plan.OpUpdate, "unchanged"), action(plan.OpNothing, "back"),
	}}
	done := doneBetween(before, left, []discovery.Failure{{Op: plan.OpCreate, Key: app("denied"), Err: errors.New("the role lacks create")}})
	require.Equal(t, []int{1, 1, 1}, []int{done.Created, done.Updated, done.Deleted})
	require.Equal(t, []appliedFailure{{plan.OpCreate, app("denied"), "the role lacks create"}}, done.Failures)
}

// TestApplyEnds has apply go on only for what the agent will do soon.
func TestApplyEnds(t *testing.T) {
	denied := []discovery.Failure{{Key: app("a"), Err: errors.New("denied")}}
	frozen := plan.Plan{Budget: plan.Budget{Frozen: true}, DeletionHash: "0f3a9c2b41de"}
	for _, test := range []struct {
		name     string
		applying applying
		left     plan.Plan
		failures []discovery.Failure
		goesOn   bool
	}{
		{"nothing is left", applying{rounds: 1}, plan.Plan{Actions: []plan.Action{action(plan.OpNothing, "a")}}, nil, false},
		{"something is", applying{rounds: 9}, plan.Plan{Actions: []plan.Action{action(plan.OpCreate, "a")}}, nil, true},
		{"it failed, perhaps before", applying{rounds: 1}, plan.Plan{Actions: []plan.Action{action(plan.OpCreate, "a")}}, denied, true},
		{"it failed twice", applying{rounds: applyAsks}, plan.Plan{Actions: []plan.Action{action(plan.OpCreate, "a")}}, denied, false},
		{"a conflict", applying{rounds: 1}, plan.Plan{Actions: []plan.Action{action(plan.OpConflict, "a")}}, nil, false},
		{"frozen", applying{rounds: 1}, frozen, nil, false},
		{"frozen and approved", applying{rounds: 1, hash: frozen.DeletionHash}, frozen, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.goesOn, test.applying.goesOn(test.left, test.failures))
		})
	}
}

// TestPurgedSaysWhatIsLeft has a purge that others disturbed not end with 0.
// Deletions that nobody waits for are left, and the answer says why.
func TestLateDeletionsAreExplained(t *testing.T) {
	now := time.Now()
	guard := plan.Guard{AbsentFor: 10 * time.Second, Settle: 3 * time.Minute}
	left := plan.Plan{Actions: []plan.Action{action(plan.OpDelete, "a")}}
	require.Empty(t, lateDeletions(now, left, false, time.Time{}, guard), "it has settled")
	require.Empty(t, lateDeletions(now, plan.Plan{}, true, now.Add(time.Minute), guard), "nothing is left")
	require.Contains(t, lateDeletions(now, left, true, now.Add(time.Minute), guard)[0], "its source has to settle first (guard.settle, 3m0s), until "+now.Add(time.Minute).UTC().Format(time.RFC3339))
	require.Contains(t, lateDeletions(now, left, true, time.Time{}, guard)[0], "(guard.settle, 3m0s), once its events, which are lost, are followed again, and then", "no time that moves")
	guard.AbsentFor = time.Hour
	require.Contains(t, lateDeletions(now, left, false, time.Time{}, guard)[0], "1h0m0s (guard.absent_for), which isn't waited for here")
}

// What is registered and has no agent at the moment is shown, and counts as nothing
// to do.
func TestWhatIsAwayIsShown(t *testing.T) {
	away := action(plan.OpNothing, "a")
	away.Away, away.Reason = true, "its agent is away"
	p := plan.Plan{Actions: []plan.Action{away, action(plan.OpNothing, "b")}, Unchanged: 1}
	w := &page{}
	w.plan(p)
	require.Regexp(t, `(?m)^away +app/a .*its agent is away$`, w.String())
	require.NotContains(t, w.String(), "app/b")
	require.Contains(t, w.String(), "0 to delete, 1 away; 1 as they should be")
	require.Zero(t, p.ExitCode())
}

func TestPurgedSaysWhatIsLeft(t *testing.T) {
	for _, test := range []struct {
		result discovery.Result
		code   int
		told   string
	}{
		{discovery.Result{Deleted: 2}, 0, "2 deleted."},
		{discovery.Result{Deleted: 1, Skipped: 1}, 2, "1 are there still"},
		{discovery.Result{Skipped: 1, Failures: []discovery.Failure{{Op: plan.OpDelete, Key: app("a"), Err: errors.New("denied")}}}, 6, "delete app/a: denied"},
	} {
		r, err := purged(test.result, question{})
		require.NoError(t, err)
		require.Equal(t, test.code, r.Code)
		require.Contains(t, r.Text, test.told)
	}
}

// TestWritesOfCommandsAreLogged has the audit lines not be among what a command
// keeps quiet about.
func TestWritesOfCommandsAreLogged(t *testing.T) {
	var errs bytes.Buffer
	c := &discoveryCommand{env: environment{Getenv: func(string) string { return "" }, Stderr: &errs}, global: &globals{}}
	log, audit := c.loggers(new(config.Config))
	log.Info("Something.")
	require.Empty(t, errs.String())
	a := &agent{cfg: new(config.Config), log: log, audit: audit}
	made := a.reconcilerOptions(&discoveryService{options: &settings.Options{}}, nil)
	made.Auditor.Audit(context.Background(), discovery.Entry{Op: plan.OpDelete, Key: app("a"), Outcome: "ok"})
	require.Contains(t, errs.String(), "Registration changed.")
	require.True(t, audit.Enabled(t.Context(), slog.LevelInfo))
}

// TestLivingServicesGiveNothingUp has adopt refuse to take what another service of
// the same file looks after, whoever says that it's gone.
func TestLivingServicesGiveNothingUp(t *testing.T) {
	service := func(name, owner string) config.Service {
		o := settings.New()
		o.Name, o.Owner, o.Source.Type = name, owner, "file"
		return config.Service{Type: settings.Type, Name: name, Options: o}
	}
	cfg := &config.Config{Services: []config.Service{service("web", ""), service("db", ""), service("one", "shared"), service("two", "shared")}}
	const host, elsewhere = "bot/0123456789abcdef/", "bot/fedcba9876543210/"
	ownerOf := func(o *settings.Options) (string, error) { return host + o.Name, nil }
	for name, want := range map[string]map[string]string{
		"web": {host + "db": "db", "shared": "one", elsewhere + "db": "", host + "web": "", "file/two": ""},
		"one": {host + "db": "db", host + "web": "web", "file/two": "two", elsewhere + "web": "", host + "gone": "", "": ""},
	} {
		o, err := discoverySettings(cfg, name)
		require.NoError(t, err)
		for mark, sibling := range want {
			got, err := siblingOf(cfg, o, mark, ownerOf)
			require.NoError(t, err)
			require.Equal(t, sibling, got, "%s adopts from %q", name, mark)
			if sibling == "" {
				continue
			}
			s := &discoveryService{options: o, sibling: func(mark string) (string, error) { return siblingOf(cfg, o, mark, ownerOf) }}
			_, err = s.adopt(t.Context(), question{Kind: resource.KindApp, Name: "x", From: mark})
			require.Equal(t, failure.Conflict, failure.KindOf(err))
			require.ErrorContains(t, err, "the service "+sibling+" of this very agent")
		}
	}

	// Whose a sibling's resources are has to be known before any are taken.
	one, err := discoverySettings(cfg, "one")
	require.NoError(t, err)
	unknown := func(*settings.Options) (string, error) {
		return "", failure.New(failure.Transient, "the bot has no identity yet")
	}
	s := &discoveryService{options: one, sibling: func(mark string) (string, error) { return siblingOf(cfg, one, mark, unknown) }}
	_, err = s.adopt(t.Context(), question{Kind: resource.KindApp, Name: "x", From: host + "web"})
	require.ErrorContains(t, err, "no identity yet")
}

func TestPlausibleOwner(t *testing.T) {
	own, shared := new(settings.Options), &settings.Options{Owner: "shared/web"}
	own.Name, shared.Name = "web", "web"
	require.NoError(t, plausibleOwner(own, "bot/0123456789abcdef/web"))
	require.NoError(t, plausibleOwner(shared, "shared/web"))
	for _, owner := range []string{"", "bot/0123456789abcdef/db", "bot/x/web", "/0123456789abcdef/web", "shared/web"} {
		require.Equal(t, failure.Trust, failure.KindOf(plausibleOwner(own, owner)), owner)
	}
	require.Error(t, plausibleOwner(shared, "bot/0123456789abcdef/web"))
}

// TestRoleYAML has the printed role be the same as the one in JSON, which the
// cluster has been asked to take.
func TestRoleYAML(t *testing.T) {
	for name, o := range map[string]registry.RoleOptions{
		"dynamic": {Name: "web-registrar", Owner: "bot/0123456789abcdef/web", Dynamic: resource.Kinds()},
		"shared":  {Name: "web-registrar", Owner: "shared/web", Lease: true, Dynamic: resource.Kinds()[:1]},
		"agent":   {Name: "web-registrar", Owner: "bot/0123456789abcdef/web", Agent: true},
	} {
		t.Run(name, func(t *testing.T) {
			role, warnings, err := registry.Role(o)
			require.NoError(t, err)
			text, err := roleYAML(role, warnings, "web")
			require.NoError(t, err)
			require.Contains(t, text, "tctl bots add web --roles=web-registrar")
			var tree map[string]any
			require.NoError(t, yaml.Unmarshal([]byte(text), &tree))
			encoded, err := json.Marshal(tree)
			require.NoError(t, err)
			read := new(types.RoleV6)
			decoder := json.NewDecoder(bytes.NewReader(encoded))
			decoder.DisallowUnknownFields()
			require.NoError(t, decoder.Decode(read))
			require.NoError(t, read.CheckAndSetDefaults())
			want := role.(*types.RoleV6)
			require.NoError(t, want.CheckAndSetDefaults())
			require.Equal(t, want.Spec.Allow, read.Spec.Allow)
			require.Equal(t, want.GetName(), read.GetName())
			require.Equal(t, want.Version, read.Version)
			require.Equal(t, want.Kind, read.Kind)
		})
	}
}

// TestBotNamed has a name refused that the owner can't be made of: the role would
// be for somebody else.
func TestBotNamed(t *testing.T) {
	for text, want := range map[string]string{"": "", "web": "web", "bot-web": "web", "Web_1.a-b": "Web_1.a-b"} {
		name, err := botNamed(text)
		require.NoError(t, err, text)
		require.Equal(t, want, name)
	}
	for text, told := range map[string]string{
		"my bot": `give "my-bot"`, "a/b": "may only have", "wéb": "may only have", "web\nx: y": "may only have", "bot-": "is no bot's name",
		strings.Repeat("x", 101): "at most 100",
	} {
		_, err := botNamed(text)
		require.ErrorContains(t, err, told)
		require.Equal(t, exitConfiguration, exitCode(err), text)
	}
}

func TestKeyOf(t *testing.T) {
	key, err := keyOf("APP/grafana")
	require.NoError(t, err)
	require.Equal(t, app("grafana"), key)
	for _, text := range []string{"", "app", "app/", "/x", "node/x"} {
		_, err := keyOf(text)
		require.Equal(t, failure.Configuration, failure.KindOf(err), text)
	}
}

// An agent that hasn't registered yet waits, and hides nothing that is blocked.
func TestTheSumsCountWhatIsBlocked(t *testing.T) {
	pending, blocked, waiting, kept := action(plan.OpNothing, "a"), action(plan.OpBlocked, "b"), action(plan.OpBlocked, "c"), action(plan.OpBlocked, "d")
	pending.Waiting, waiting.Waiting, kept.Wanted = true, true, true
	require.Equal(t, "0 to create, 0 to update, 0 to delete, 2 waiting, 1 blocked, 1 kept; 0 as they should be; 0 of others left alone.",
		sums(plan.Plan{Actions: []plan.Action{pending, blocked, waiting, kept}}))
	require.Contains(t, sums(plan.Plan{Actions: []plan.Action{pending, pending, blocked, blocked}}), "2 waiting, 2 blocked;")
}
