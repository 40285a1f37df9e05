//go:build rollcall_e2e

// The tests of the registries against a real cluster and a real Docker Engine.
// The end-to-end module compiles them (it can't link this module's Teleport
// client beside its own), starts the cluster and runs them; see
// e2e/registry_test.go.
package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rollcall/cluster"
	"rollcall/discovery/registry"
	"rollcall/discovery/resource"
)

// Environment variables by which the end-to-end module speaks to these tests.
const (
	// rolesDir: write the roles that the tests need there, and do nothing else.
	rolesDir = "ROLLCALL_E2E_ROLES"
	// stageFile is the JSON form of stage.
	stageFile = "ROLLCALL_E2E_STAGE"
	// ownerName is the owner: another one in each run, since Docker's Engine is
	// shared by all that run at once.
	ownerName = "ROLLCALL_E2E_OWNER"
)

// stage is what the end-to-end module has set up.
type stage struct {
	ProxyAddr     string `json:"proxy_addr"`
	ProxyCA       string `json:"proxy_ca"`
	AdminIdentity string `json:"admin_identity"`
	// Bots are the join tokens of bots that may assume one role each, by the
	// role's name.
	Bots map[string]string `json:"bots"`
	// TeleportImage is the agents' image, WebImage that of an application on
	// port 15672.
	TeleportImage string `json:"teleport_image"`
	WebImage      string `json:"web_image"`

	log     *slog.Logger
	mu      sync.Mutex
	issuers map[string]*cluster.Issuer
	closers []func()
}

// on is set by TestMain before any test runs.
var on *stage

// owner is whom the resources of these tests belong to.
var owner = os.Getenv(ownerName)

// roles are those that the tests need, by name.
func roles() map[string]registry.RoleOptions {
	return map[string]registry.RoleOptions{
		"all":     {Name: "all", Owner: owner, Dynamic: resource.Kinds(), Lease: true},
		"only-db": {Name: "only-db", Owner: owner, Dynamic: []resource.Kind{resource.KindDatabase}},
		"agent":   {Name: "agent", Owner: owner, Agent: true},
	}
}

func TestMain(m *testing.M) {
	if owner == "" {
		fmt.Fprintf(os.Stderr, "these tests are run by the end-to-end module, which sets %s\n", ownerName)
		os.Exit(1)
	}
	if dir := os.Getenv(rolesDir); dir != "" {
		if err := writeRoles(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	on = &stage{log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})), issuers: map[string]*cluster.Issuer{}}
	content, err := os.ReadFile(os.Getenv(stageFile))
	if err == nil {
		err = json.Unmarshal(content, on)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "these tests are run by the end-to-end module, which sets %s: %v\n", stageFile, err)
		os.Exit(1)
	}
	code := m.Run()
	for _, closer := range on.closers {
		closer()
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func writeRoles(dir string) error {
	for name, options := range roles() {
		role, _, err := registry.Role(options)
		if err != nil {
			return err
		}
		content, err := json.MarshalIndent(role, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name+".json"), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) cluster() *cluster.Cluster {
	return cluster.New(cluster.Options{ProxyServer: s.ProxyAddr, ProxyCA: s.ProxyCA}, s.log)
}

// as returns access as a bot that may assume just that role.
func (s *stage) as(t *testing.T, role string) *cluster.Access {
	t.Helper()
	return s.issuer(t, role).Access(cluster.CertRequest{TTL: time.Hour})
}

func (s *stage) issuer(t *testing.T, role string) *cluster.Issuer {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if issuer := s.issuers[role]; issuer != nil {
		return issuer
	}
	key, err := cluster.NewKey()
	require.NoError(t, err)
	bot := cluster.NewBot(s.cluster(), s.log)
	creds, err := bot.Join(t.Context(), cluster.JoinRequest{Method: cluster.JoinMethodToken, Token: s.Bots[role], Key: key, TTL: time.Hour})
	require.NoError(t, err)
	issuer := cluster.NewIssuer(bot, fixedIdentity{creds}, cluster.Options{}, s.log)
	s.closers = append(s.closers, func() { issuer.Close(); bot.Close() })
	s.issuers[role] = issuer
	return issuer
}

// admin returns access that may do everything.
func (s *stage) admin(t *testing.T) *cluster.Access {
	t.Helper()
	content, err := os.ReadFile(s.AdminIdentity)
	require.NoError(t, err)
	access, err := s.cluster().AccessWithIdentity(content, s.log)
	require.NoError(t, err)
	t.Cleanup(access.Close)
	return access
}

// fixedIdentity is an IdentitySource of an identity that isn't renewed.
type fixedIdentity struct{ creds *cluster.Credentials }

func (f fixedIdentity) Wait(context.Context) (*cluster.Credentials, error) { return f.creds, nil }

// eventually waits for a condition; the server's caches lag its writes.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(45 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			require.FailNow(t, what, "%v", err)
		}
		select {
		case <-t.Context().Done():
			require.NoError(t, t.Context().Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// unique makes a name that's a DNS label and nobody else's.
func unique(t *testing.T, prefix string) string {
	name := strings.ToLower(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, t.Name()))
	return fmt.Sprintf("%s-%.20s-%x", prefix, strings.Trim(name[strings.LastIndex(name, "/")+1:], "-"), time.Now().UnixNano()&0xffffffff)
}
