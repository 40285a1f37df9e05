package harness

// env is what an agent needs to trust the proxy, and what keeps the official
// one from asking anybody else.
func (c *Cluster) env() []string {
	return []string{"SSL_CERT_FILE=" + c.Info().ProxyCA}
}

// Rollcall starts the agent under test with the given arguments. It trusts the
// proxy's CA by SSL_CERT_FILE, and is gone when the test ends.
func (c *Cluster) Rollcall(t T, args ...string) *Process {
	t.Helper()
	return c.Run(t, Command{Path: c.Suite.Bin.Rollcall, Args: args})
}

// Tbot starts the official agent with the given arguments, like Rollcall.
func (c *Cluster) Tbot(t T, args ...string) *Process {
	t.Helper()
	return c.Run(t, Command{Path: c.Suite.Bin.Tbot, Args: args})
}

// Run starts any command with the environment of Rollcall and Tbot, for the
// ones that need more of their own (Env, Stdin, Measured).
func (c *Cluster) Run(t T, command Command) *Process {
	t.Helper()
	command.Env = append(c.env(), command.Env...)
	return c.Suite.Start(t, command)
}
