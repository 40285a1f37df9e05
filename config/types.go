package config

import (
	"slices"

	"rollcall/destination"
	"rollcall/discovery/settings"
	"rollcall/discovery/source/docker"
	"rollcall/discovery/source/file"
	"rollcall/outputs"
	"rollcall/tunnel"
)

// kind is one type of output, service or destination.
type kind struct {
	name string
	// options returns a pointer to fresh options to decode into; nil for a
	// type that has none, or whose keys aren't known yet.
	options func() any
	// service says that it's no output: it writes no files, has no destination,
	// and its options are ServiceOptions.
	service bool
	// unbuilt types are recognised and then refused by name.
	unbuilt bool
}

// outputKinds are the types of outputs and services, one line a type. A new
// one needs its options in its room and its line here.
func outputKinds() []kind {
	return []kind{
		{name: outputs.TypeApplication, options: func() any { return new(outputs.ApplicationOptions) }},
		{name: outputs.TypeIdentity, options: func() any { return new(outputs.IdentityOptions) }},
		{name: settings.Type, options: func() any { return settings.New() }, service: true},
		{name: outputs.TypeDatabase, options: func() any { return new(databaseOptions) }, unbuilt: true},
		{name: outputs.TypeKubernetes, options: func() any { return new(kubernetesOptions) }, unbuilt: true},
		{name: outputs.TypeSSHHost, options: func() any { return new(sshHostOptions) }, unbuilt: true},
		{name: tunnel.TypeTunnel, options: func() any { return new(tunnel.Options) }, service: true},
		{name: tunnel.TypeProxy, options: func() any { return new(tunnel.ProxyOptions) }, service: true},
		{name: "database-tunnel", unbuilt: true},
		{name: "example", unbuilt: true},
		{name: "kubernetes/argo-cd", unbuilt: true},
		{name: "kubernetes/v2", unbuilt: true},
		{name: "spiffe-svid", unbuilt: true},
		{name: "spiffe-workload-api", unbuilt: true},
		{name: "ssh-multiplexer", unbuilt: true},
		{name: "ssh-proxy", unbuilt: true},
		{name: "unstable_client_credential", unbuilt: true},
		{name: "workload-identity-api", unbuilt: true},
		{name: "workload-identity-aws-roles-anywhere", unbuilt: true},
		{name: "workload-identity-jwt", unbuilt: true},
		{name: "workload-identity-x509", unbuilt: true},
	}
}

// destinationKinds are the types of destinations.
func destinationKinds() []kind {
	return []kind{
		{name: destination.TypeDirectory, options: func() any { return new(destination.DirectoryOptions) }},
		{name: destination.TypeMemory},
		{name: destination.TypeNop},
		{name: destination.TypeKubernetesSecret, options: func() any { return new(kubernetesSecretOptions) }, unbuilt: true},
	}
}

// sourceKinds are the types of sources of a discovery service.
func sourceKinds() []kind {
	return []kind{
		{name: docker.Type, options: func() any { return new(docker.Options) }},
		{name: file.Type, options: func() any { return new(file.Options) }},
	}
}

// joinMethods are the methods that the official agent knows and we don't yet.
func unbuiltJoinMethods() []string {
	return []string{
		"azure", "azure_devops", "bitbucket", "bound_keypair", "circleci", "ec2", "env0", "gcp",
		"github", "gitlab", "iam", "oracle", "spacelift", "terraform_cloud", "tpm",
	}
}

func kindNames(kinds []kind, builtOnly bool) []string {
	var names []string
	for _, k := range kinds {
		if !builtOnly || !k.unbuilt {
			names = append(names, k.name)
		}
	}
	return names
}

func kindNamed(kinds []kind, name string) (kind, bool) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, false
	}
	return kinds[i], true
}
