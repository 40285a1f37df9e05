package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"time"

	"github.com/gravitational/teleport/api/identityfile"
	"github.com/gravitational/teleport/api/types"
	"golang.org/x/crypto/ssh"

	"github.com/gravitational/teleport/lib/auth"
)

const (
	// adminName is the administrator's user and role.
	adminName = "e2e-admin"
	adminTTL  = 30 * 24 * time.Hour
)

// writeAdminIdentity makes the administrator and writes an identity file for
// him. After a CA rotation it's called again: the old file's end has come.
func (c *cluster) writeAdminIdentity(ctx context.Context) error {
	server := c.auth()
	if err := upsertAdmin(ctx, server); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	sshCert, tlsCert, err := issueAdmin(ctx, server, ssh.MarshalAuthorizedKey(public))
	if err != nil {
		return err
	}
	cas, err := hostCAs(ctx, server)
	if err != nil {
		return err
	}
	encoded, err := identityfile.Encode(&identityfile.IdentityFile{
		PrivateKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		Certs:      identityfile.Certs{SSH: sshCert, TLS: tlsCert},
		CACerts:    identityfile.CACerts{TLS: cas},
	})
	if err != nil {
		return err
	}
	return writeWhole(c.layout.adminIdentity(), encoded)
}

// upsertAdmin makes the user and its role, which may do everything.
func upsertAdmin(ctx context.Context, server *auth.Server) error {
	all := types.Labels{types.Wildcard: {types.Wildcard}}
	role, err := types.NewRole(adminName, types.RoleSpecV6{
		Options: types.RoleOptions{MaxSessionTTL: types.Duration(adminTTL)},
		Allow: types.RoleConditions{
			Logins:               []string{adminName},
			NodeLabels:           all,
			AppLabels:            all,
			DatabaseLabels:       all,
			KubernetesLabels:     all,
			WindowsDesktopLabels: all,
			Rules:                []types.Rule{types.NewRule(types.Wildcard, []string{types.Wildcard})},
		},
	})
	if err != nil {
		return err
	}
	if err := server.UpsertRole(ctx, role); err != nil {
		return err
	}
	user, err := types.NewUser(adminName)
	if err != nil {
		return err
	}
	user.SetRoles([]string{adminName})
	return server.UpsertUser(user)
}

// issueAdmin asks for certificates until the server's cache has seen the user.
func issueAdmin(ctx context.Context, server *auth.Server, public []byte) (sshCert, tlsCert []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		sshCert, tlsCert, err = server.GenerateUserTestCerts(auth.GenerateUserTestCertsRequest{
			Key: public, Username: adminName, TTL: adminTTL,
		})
		if err == nil {
			return sshCert, tlsCert, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil, err
		case <-tick.C:
		}
	}
}

// hostCAs returns the PEM certificates that the cluster's own TLS servers
// present, the coming ones of a rotation included.
func hostCAs(ctx context.Context, server *auth.Server) ([][]byte, error) {
	name, err := server.GetClusterName()
	if err != nil {
		return nil, err
	}
	ca, err := server.Services.GetCertAuthority(ctx, types.CertAuthID{
		Type: types.HostCA, DomainName: name.GetClusterName(),
	}, false)
	if err != nil {
		return nil, err
	}
	var found [][]byte
	for _, pair := range ca.GetTrustedTLSKeyPairs() {
		found = append(found, pair.Cert)
	}
	return found, nil
}

// pin returns the pin of the active host CA, and the cluster's name.
func (c *cluster) pin(ctx context.Context) (pin, name string, err error) {
	server := c.auth()
	cas, err := hostCAs(ctx, server)
	if err != nil {
		return "", "", err
	}
	if len(cas) == 0 {
		return "", "", errors.New("the host CA has no certificate")
	}
	block, _ := pem.Decode(cas[0])
	if block == nil {
		return "", "", errors.New("the host CA's certificate isn't PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", "", err
	}
	clusterName, err := server.GetClusterName()
	if err != nil {
		return "", "", err
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:]), clusterName.GetClusterName(), nil
}
