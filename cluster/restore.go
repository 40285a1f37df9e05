package cluster

import (
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/trace"
)

// RestoreCredentials makes credentials of what was stored of them. Its errors
// never hold any of the content.
func RestoreCredentials(privatePEM, tlsCert, sshCert []byte, tlsCAs, sshCAs [][]byte) (*Credentials, error) {
	key, err := LoadKey(privatePEM)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	return NewCredentials(key, &proto.Certs{
		TLS:        tlsCert,
		SSH:        sshCert,
		TLSCACerts: tlsCAs,
		SSHCACerts: sshCAs,
	})
}
