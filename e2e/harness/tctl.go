package harness

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/gravitational/teleport/api/client/proto"
)

// Tools makes a directory for PATH with the programs that documents call by
// name: the official tctl, and rollcall.
func (s *Suite) Tools(t T) string {
	t.Helper()
	dir := s.Dir(t)
	for name, path := range map[string]string{"tctl": s.Bin.Cluster, "rollcall": s.Bin.Rollcall} {
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatalf("link %s: %v", name, err)
		}
	}
	return dir
}

// TctlEnv makes tctl speak to this cluster as its administrator, as it does on
// the Auth Service's own host.
func (c *Cluster) TctlEnv() []string {
	info := c.Info()
	return []string{"TELEPORT_AUTH_SERVER=" + info.AuthAddr, "TELEPORT_IDENTITY_FILE=" + info.AdminIdentity}
}

// Tctl runs the official tctl as the administrator. It must succeed; what it
// printed is returned.
func (c *Cluster) Tctl(t T, args ...string) string {
	t.Helper()
	p := c.Suite.Start(t, Command{Path: filepath.Join(c.Suite.Tools(t), "tctl"), Args: args, Env: c.TctlEnv()})
	if r := p.Wait(t); r.ExitCode != 0 {
		t.Fatalf("tctl %s: exit code %d: %s", strings.Join(args, " "), r.ExitCode, p.Stderr)
	}
	return p.Stdout.String()
}

// CreateWithTctl makes what stands in a file (`tctl create -f FILE`); one that is
// there already is replaced.
func (c *Cluster) CreateWithTctl(t T, file string) {
	t.Helper()
	c.Tctl(t, "create", "-f", file)
}

// AddBot is CreateBot as an administrator does it, with `tctl bots add`.
func (c *Cluster) AddBot(t T, name string, roles ...string) Bot {
	t.Helper()
	for _, role := range roles {
		Eventually(t, cacheTimeout, "role "+role, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
			defer cancel()
			_, err := c.Client(t).GetRole(ctx, role)
			return err
		})
	}
	out := c.Tctl(t, "bots", "add", name, "--roles="+strings.Join(roles, ","), "--format=json")
	var made proto.CreateBotResponse
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatalf("tctl bots add: %v", err)
	}
	bot := Bot{Name: name, User: made.UserName, Role: made.RoleName, Token: made.TokenID}
	c.awaitBot(t, bot)
	return bot
}
