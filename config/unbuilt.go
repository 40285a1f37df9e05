package config

import "rollcall/outputs"

// The options in this file belong to types that are checked, so that a file's
// other mistakes show as well, and then refused by name. They move to their
// rooms when the types are built.

// databaseFormat is how a database's files are named.
type databaseFormat string

type databaseOptions struct {
	outputs.CommonOptions `yaml:",inline"`
	Format                databaseFormat `yaml:"format"`
	Service               string         `yaml:"service"`
	Database              string         `yaml:"database"`
	Username              string         `yaml:"username"`
}

type kubernetesOptions struct {
	outputs.CommonOptions `yaml:",inline"`
	KubernetesCluster     string `yaml:"kubernetes_cluster"`
	DisableExecPlugin     bool   `yaml:"disable_exec_plugin"`
}

type sshHostOptions struct {
	outputs.CommonOptions `yaml:",inline"`
	Principals            []string `yaml:"principals"`
}

type kubernetesSecretOptions struct {
	Name      string            `yaml:"name"`
	Namespace string            `yaml:"namespace"`
	Labels    map[string]string `yaml:"labels"`
}

type azureOptions struct {
	// ClientID names the managed identity.
	ClientID string `yaml:"client_id"`
}

// laterKeys are keys of newer versions of the official agent, and of our own
// design, that mean something which isn't built yet; with each what to do.
func laterKeys() map[string]string {
	const remove = "remove the line for now"
	const methods = "it belongs to a join method that isn't built either: use token or kubernetes"
	return map[string]string{
		"allow_reissue": remove,
		"ssh_config":    "remove the line: an identity output always writes ssh_config and known_hosts",
		"join_uri":      "set proxy_server, onboarding.join_method and onboarding.token in its place",
		"gitlab":        methods,
		"terraform":     methods,
		"bound_keypair": methods,
	}
}
