package config

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"rollcall/cluster"
	"rollcall/destination"
)

func (c *Config) checkOnboarding() {
	c.checkJoinMethod()
	c.checkToken()
	if c.Onboarding.JoinMethod != cluster.JoinMethodKubernetes && c.given("onboarding.kubernetes") {
		c.fail("onboarding.kubernetes", "onboarding.kubernetes is only for join method kubernetes",
			"set join_method: kubernetes, or remove it")
	}
	if c.Onboarding.JoinMethod != "azure" && c.given("onboarding.azure") {
		c.fail("onboarding.azure", "onboarding.azure is only for join method azure, which isn't built yet", "remove it")
	}
}

func (c *Config) checkJoinMethod() {
	built := []string{cluster.JoinMethodToken, cluster.JoinMethodKubernetes}
	method := c.Onboarding.JoinMethod
	switch {
	case method == "" || slices.Contains(built, method):
	case slices.Contains(unbuiltJoinMethods(), method):
		c.fail("onboarding.join_method", fmt.Sprintf("join method %q isn't built yet", method), "use "+orList(built))
	default:
		suggestion := didYouMean(method, slices.Concat(built, unbuiltJoinMethods()))
		if suggestion == "" {
			suggestion = "use " + orList(built)
		}
		c.fail("onboarding.join_method", fmt.Sprintf("unknown join method %q", short(method)), suggestion)
	}
}

// checkToken looks at the token's form only, and never shows it.
func (c *Config) checkToken() {
	const path = "onboarding.token"
	const instead = "name a file by its absolute path, or a systemd credential as credential:NAME"
	token := c.Onboarding.Token
	switch {
	case token == "" && c.Onboarding.JoinMethod == cluster.JoinMethodKubernetes:
		c.fail(path, "join method kubernetes needs onboarding.token", "give the name of the join token that the cluster has for this bot")
	case token == "" && c.Onboarding.JoinMethod != "" && c.Storage.Type == destination.TypeMemory:
		c.fail(path, "onboarding.token is needed, since storage in memory holds no identity from before", instead)
	case token == "":
	case strings.Contains(token, "${"), strings.HasPrefix(token, "$"):
		c.fail(path, "onboarding.token looks like a variable, and variables aren't expanded", instead)
	case strings.HasPrefix(token, "./"), strings.HasPrefix(token, "../"), strings.HasPrefix(token, "~/"):
		c.fail(path, "onboarding.token looks like a relative path, and would be taken for the token itself", "write the file's absolute path")
	case token == credentialPrefix, strings.HasPrefix(token, credentialPrefix) && strings.Contains(token, "/"):
		c.fail(path, "onboarding.token names no systemd credential", "write credential:NAME, with the NAME of LoadCredential=NAME:…")
	case strings.TrimSpace(token) != token, strings.ContainsAny(token, "\n\r\t"):
		c.fail(path, "onboarding.token has blanks or line ends around or in it", "remove them")
	}
}

// checkTrust refuses contradictions about whom to trust, as the official agent
// does.
func (c *Config) checkTrust() {
	pins, ca := len(c.Onboarding.CAPins) > 0, c.Onboarding.CAPath != ""
	const insecure = "remove insecure: with it, nothing would be checked"
	switch {
	case c.Cluster.Insecure && pins:
		c.fail("insecure", "insecure contradicts onboarding.ca_pins", insecure)
	case c.Cluster.Insecure && ca:
		c.fail("insecure", "insecure contradicts onboarding.ca_path", insecure)
	case pins && ca:
		c.fail(c.later("onboarding.ca_pins", "onboarding.ca_path"), "onboarding.ca_pins and onboarding.ca_path are both given", "keep one")
	}
	if c.Cluster.Insecure && c.Cluster.ProxyCA != "" {
		c.fail("insecure", "insecure contradicts proxy_ca", insecure)
	}
	for i, pin := range c.Onboarding.CAPins {
		sum, found := strings.CutPrefix(pin, "sha256:")
		if raw, err := hex.DecodeString(sum); !found || err != nil || len(raw) != 32 {
			c.fail(fmt.Sprintf("onboarding.ca_pins[%d]", i), fmt.Sprintf("onboarding.ca_pins[%d] isn't a pin", i),
				"a pin is sha256: and 64 hexadecimal digits; `tctl status` prints it")
		}
	}
}
