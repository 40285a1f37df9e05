// Package identity knows the bot's own identity: join or renew, persist before
// use, publish to subscribers. It doesn't know what the identity is used for.
package identity

// OnboardingOptions say how the bot joins. The zero value is valid for a bot
// whose storage holds an identity.
type OnboardingOptions struct {
	// JoinMethod is token or kubernetes.
	JoinMethod string `yaml:"join_method,omitempty"`
	// Token is the join token: a literal, an absolute path of a file that
	// holds it, or "credential:NAME" for a systemd credential.
	Token string `yaml:"token,omitempty"`
	// CAPins are "sha256:…" hashes of the cluster CA's public key, for joining
	// an Auth Service directly.
	CAPins []string `yaml:"ca_pins,omitempty"`
	// CAPath is a PEM file with the cluster's CA, for joining an Auth Service
	// directly.
	CAPath string `yaml:"ca_path,omitempty"`
	// Kubernetes configures the kubernetes join method.
	Kubernetes KubernetesOptions `yaml:"kubernetes,omitempty"`
}

// KubernetesOptions configure the kubernetes join method.
type KubernetesOptions struct {
	// TokenPath is the ServiceAccount token's file; default: the environment's
	// KUBERNETES_TOKEN_PATH, then the pod's usual path.
	TokenPath string `yaml:"token_path,omitempty"`
}
