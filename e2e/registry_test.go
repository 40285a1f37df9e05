package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// registryStage is what the registries' own tests (discovery/registry, compiled
// as bin/registry.test) need; they're in the agent's module, because this one
// can't link the agent's Teleport client.
type registryStage struct {
	ProxyAddr     string            `json:"proxy_addr"`
	ProxyCA       string            `json:"proxy_ca"`
	AdminIdentity string            `json:"admin_identity"`
	Bots          map[string]string `json:"bots"`
	TeleportImage string            `json:"teleport_image"`
	WebImage      string            `json:"web_image"`
}

// TestRegistries runs the registries' tests of dynamic resources, of every kind,
// as bots that have just the roles that rollcall prints.
func TestRegistries(t *testing.T) {
	// TestRole is a unit test, which runs with the others of its module.
	runRegistryTests(t, harness.Unique(t, "owner"), "Test", "^(TestAgent.*|TestRole)$", nil)
}

// TestAgentRegistry runs those of agents in containers of a real Docker Engine.
func TestAgentRegistry(t *testing.T) {
	docker := suite.Docker(t)
	owner := harness.Unique(t, "owner")
	runRegistryTests(t, owner, "^TestAgent", "^$", func(stage *registryStage) {
		stage.TeleportImage = docker.TeleportImage()
		stage.WebImage = docker.WebImage("rabbitmq")
		docker.RemoveLabelled("rollcall/owner=" + owner)
	})
}

// runRegistryTests runs some of them; what they register belongs to the owner,
// which no other run has.
func runRegistryTests(t *testing.T, owner, run, skip string, more func(*registryStage)) {
	c := suite.NewCluster(t, harness.ClusterOptions{})
	info := c.Info()
	stage := registryStage{
		ProxyAddr: info.ProxyAddr, ProxyCA: info.ProxyCA, AdminIdentity: info.AdminIdentity, Bots: map[string]string{},
	}
	for _, role := range registryRoles(t, owner) {
		createRole(t, c, role)
		stage.Bots[role.GetName()] = c.CreateBot(t, "registry-"+role.GetName(), role.GetName()).Token
	}
	if more != nil {
		more(&stage)
	}
	content, err := json.Marshal(stage)
	require.NoError(t, err)
	tests := suite.Start(t, harness.Command{
		Path: suite.Bin.Registry,
		Args: []string{"-test.v", "-test.run", run, "-test.skip", skip, "-test.timeout", "8m"},
		Env:  []string{"ROLLCALL_E2E_STAGE=" + suite.WriteFile(t, "stage.json", string(content)), "ROLLCALL_E2E_OWNER=" + owner},
	})
	result := tests.WaitAtMost(t, 9*time.Minute)
	passed := strings.Count(tests.Stdout.String(), "--- PASS: ")
	require.Zero(t, result.ExitCode, "%s", tests.Stdout)
	require.Greater(t, passed, 5, "the tests must have been found")
	require.NotContains(t, tests.Stdout.String(), "--- SKIP")
	t.Logf("%d tests passed", passed)
}

// registryRoles are the roles that rollcall makes for the tests' services. They
// are read as strictly as can be: a field that this Teleport doesn't know would
// be lost without a word.
func registryRoles(t *testing.T, owner string) []*types.RoleV6 {
	t.Helper()
	dir := suite.Dir(t)
	suite.Start(t, harness.Command{Path: suite.Bin.Registry, Env: []string{"ROLLCALL_E2E_ROLES=" + dir, "ROLLCALL_E2E_OWNER=" + owner}}).Succeed(t)
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	require.NoError(t, err)
	var roles []*types.RoleV6
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		decoder := json.NewDecoder(bytes.NewReader(content))
		decoder.DisallowUnknownFields()
		role := &types.RoleV6{}
		require.NoError(t, decoder.Decode(role), "%s", content)
		roles = append(roles, role)
	}
	require.NotEmpty(t, roles)
	return roles
}

func createRole(t *testing.T, c *harness.Cluster, role types.Role) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, c.Client(t).UpsertRole(ctx, role))
	harness.Eventually(t, patience, "role "+role.GetName(), func() error {
		_, err := c.Client(t).GetRole(ctx, role.GetName())
		return err
	})
}
