package e2e

import (
	"fmt"
	"path/filepath"
	"testing"

	"rollcall/e2e/harness"
)

// stage is what most tests start from: an application behind the shared
// cluster, a role that reaches just that application, and a bot that may assume
// just that role.
type stage struct {
	cluster *harness.Cluster
	sample  *harness.Sample
	app     harness.App
	bot     harness.Bot
	dir     string
	// settle is the settle_time of tunnels, empty: a short one.
	settle string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	return newStageOn(t, suite.Cluster(t))
}

func newStageOn(t *testing.T, c *harness.Cluster) *stage {
	t.Helper()
	name := harness.Unique(t, "app")
	sample := harness.SampleApp(t)
	app := c.CreateApp(t, name, sample.URL, map[string]string{"team": name})
	c.CreateAppRole(t, name+"-access", map[string]string{"team": name})
	return &stage{
		cluster: c,
		sample:  sample,
		app:     app,
		bot:     c.CreateBot(t, name, name+"-access"),
		dir:     suite.Dir(t),
	}
}

// out is the path of a file of the application output.
func (s *stage) out(name string) string { return filepath.Join(s.dir, "out", name) }

// storage is the path of the bot's own storage.
func (s *stage) storage() string { return filepath.Join(s.dir, "storage") }

// config writes a configuration with a token join through the proxy and one
// application output; extra is appended to it.
func (s *stage) config(t *testing.T, extra string) string {
	t.Helper()
	return s.configWith(t, fmt.Sprintf(`
version: v2
proxy_server: %s
onboarding: {join_method: token, token: %s}
storage: {type: directory, path: %s}
outputs:
  - type: application
    app_name: %s
    destination: {type: directory, path: %s}
`, s.cluster.Info().ProxyAddr, s.bot.Token, s.storage(), s.app.Name, filepath.Join(s.dir, "out"))+extra)
}

func (s *stage) configWith(t *testing.T, content string) string {
	t.Helper()
	return suite.WriteFile(t, "rollcall.yaml", content)
}
