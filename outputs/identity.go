package outputs

import (
	"context"
	"errors"

	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/destination"
)

// Identity keeps credentials for SSH and the Teleport API fresh.
type Identity struct {
	*renewer
}

// NewIdentity returns an output that asks for certificates for SSH and the
// Teleport API and writes them to the destination.
func NewIdentity(opts IdentityOptions, deps Dependencies) (*Identity, error) {
	if err := errors.Join(opts.Validate(), deps.complete(), checkSSHDirectory(deps.DirectoryPath)); err != nil {
		return nil, trace.Wrap(err)
	}
	ttl := opts.ttl(deps)
	request := cluster.IdentityRequest{
		CertRequest: cluster.CertRequest{Roles: opts.Roles, TTL: ttl},
		Cluster:     opts.Cluster,
	}
	produce := func(ctx context.Context) (*cluster.Credentials, destination.Set, error) {
		creds, err := deps.Issuer.Identity(ctx, request)
		if err != nil {
			return nil, nil, trace.Wrap(err)
		}
		cas, err := deps.Issuer.Authorities(ctx)
		if err != nil {
			return nil, nil, trace.Wrap(err)
		}
		info, err := deps.Issuer.Info(ctx)
		if err != nil {
			return nil, nil, trace.Wrap(err)
		}
		set, err := renderIdentity(creds, cas, info, deps.DirectoryPath)
		return creds, set, trace.Wrap(err)
	}
	return &Identity{newRenewer(recipe{
		name:     opts.OutputName(),
		kind:     TypeIdentity,
		want:     expectation{files: opts.Files(deps.DirectoryPath != ""), roles: opts.Roles, cluster: opts.Cluster, ttl: ttl},
		interval: opts.interval(deps),
		produce:  produce,
	}, deps)}, nil
}

// OutputName returns the configured name, or "identity", with the leaf
// cluster's name if there's one.
func (o *IdentityOptions) OutputName() string {
	switch {
	case o.Name != "":
		return o.Name
	case o.Cluster != "":
		return TypeIdentity + "-" + o.Cluster
	default:
		return TypeIdentity
	}
}

// Files returns the names of the files that the output consists of; ssh_config
// is for directories only.
func (o *IdentityOptions) Files(directory bool) []string {
	files := append(baseFiles(), fileKnownHosts)
	if directory {
		files = append(files, fileSSHConfig)
	}
	return files
}

// renderIdentity returns the output's set of files. directory is the absolute
// path of the destination, or empty if it isn't a directory.
func renderIdentity(creds *cluster.Credentials, cas *cluster.Authorities, info *cluster.Info, directory string) (destination.Set, error) {
	set, err := renderBase(creds, cas)
	if err != nil {
		return nil, err
	}
	if err := addOpenSSH(set, cas, info, directory); err != nil {
		return nil, err
	}
	return set, nil
}
