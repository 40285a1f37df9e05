package config

import (
	"fmt"
	"time"
)

func (c *Config) checkTimes() {
	key := c.ttlKey
	if key == "" {
		key = "credential_ttl"
	}
	c.checkTTL(key, c.CredentialTTL)
	c.checkInterval("renewal_interval", key, c.RenewalInterval, c.CredentialTTL)
	for _, out := range c.Outputs {
		if out.Common != nil {
			c.checkOwnTimes(out.Path, &out.Common.CredentialTTL, &out.Common.RenewalInterval)
		}
	}
	for _, s := range c.Services {
		common := s.Options.Common()
		c.checkOwnTimes(s.Path, &common.CredentialTTL, &common.RenewalInterval)
	}
	session := c.Cluster.SessionTTL
	switch {
	case session < MinCredentialTTL || session > MaxCredentialTTL:
		c.fail("session_ttl", fmt.Sprintf("session_ttl is %s, and must be from %s to %s", show(session), show(MinCredentialTTL), show(MaxCredentialTTL)), "")
	case session < c.longestTTL():
		c.fail("session_ttl", fmt.Sprintf("session_ttl is %s, shorter than the longest credential_ttl (%s): no certificate may outlive its session",
			show(session), show(c.longestTTL())), "make it at least as long")
	}
	if c.Cluster.SettleTime > MaxSettleTime {
		c.fail("settle_time", fmt.Sprintf("settle_time is %s, and must be at most %s", show(c.Cluster.SettleTime), show(MaxSettleTime)), "")
	}
}

func (c *Config) checkTTL(path string, ttl time.Duration) {
	if ttl < MinCredentialTTL || ttl > MaxCredentialTTL {
		c.fail(path, fmt.Sprintf("%s is %s, and must be from %s to %s", path, show(ttl), show(MinCredentialTTL), show(MaxCredentialTTL)), "")
	}
}

// checkInterval wants a certificate to be renewed before it ends. A one-shot
// run renews nothing, so that anything goes there, as in the official agent.
func (c *Config) checkInterval(path, ttlPath string, interval, ttl time.Duration) {
	if c.Oneshot {
		return
	}
	if interval <= 0 {
		c.fail(path, fmt.Sprintf("%s is %s, and must be more than nothing", path, show(interval)), "")
		return
	}
	if interval < ttl {
		return
	}
	what := show(interval)
	if !c.given(path) {
		// The file doesn't have the line, so the error belongs to the TTL.
		what += ", the default"
		if c.given(ttlPath) {
			c.fail(ttlPath, fmt.Sprintf("%s is %s, which isn't longer than renewal_interval (%s)", ttlPath, show(ttl), what),
				fmt.Sprintf("set renewal_interval too, for example %s", show(ttl/3)))
			return
		}
	}
	c.fail(path, fmt.Sprintf("%s is %s, and must be shorter than %s (%s)", path, what, ttlPath, show(ttl)),
		fmt.Sprintf("a third of it, %s, leaves time for retries", show(ttl/3)))
}

// checkOwnTimes checks the times of one output or service, or gives it the
// agent's.
func (c *Config) checkOwnTimes(path string, ownTTL, ownInterval *time.Duration) {
	ttlPath, intervalPath := joinPath(path, "credential_ttl"), joinPath(path, "renewal_interval")
	ttl, interval := c.given(ttlPath), c.given(intervalPath)
	switch {
	case ttl && interval:
		c.checkTTL(ttlPath, *ownTTL)
		c.checkInterval(intervalPath, ttlPath, *ownInterval, *ownTTL)
	case ttl:
		c.fail(ttlPath, path+" sets credential_ttl without renewal_interval", "set both or neither")
	case interval:
		c.fail(intervalPath, path+" sets renewal_interval without credential_ttl", "set both or neither")
	default:
		*ownTTL, *ownInterval = c.CredentialTTL, c.RenewalInterval
	}
}

// show writes a duration as a person would: 1h, not 1h0m0s.
func show(d time.Duration) string {
	switch {
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute && d < time.Hour && d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	default:
		return d.String()
	}
}
