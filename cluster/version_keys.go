package cluster

import (
	"context"
	"strconv"
	"strings"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/trace"
)

// Server versions at which something changed for us.
const (
	// botInstancesSince: the generation is kept in the bot instance, and the
	// server makes application sessions itself.
	botInstancesSince = 16
	// splitKeysSince: SSH and TLS public keys travel in fields of their own,
	// and the older field must be empty. Servers before it answer "ssh: no key
	// found" to the newer fields.
	splitKeysSince = 17
)

// setPublicKey puts the key where this server version looks for it.
func (b *Bot) setPublicKey(ctx context.Context, clt *connection, req *proto.UserCertsRequest, key *Key) error {
	major, err := b.serverMajor(ctx, clt)
	if err != nil {
		return trace.Wrap(err)
	}
	if major >= splitKeysSince {
		req.SSHPublicKey, req.TLSPublicKey = key.PublicSSH, key.PublicTLS
		return nil
	}
	req.PublicKey = key.PublicSSH //nolint:staticcheck // the only field that servers before v17 read
	return nil
}

// serverMajor asks the Auth Service for its version, once a connection.
func (b *Bot) serverMajor(ctx context.Context, clt *connection) (int, error) {
	info, err := clt.ping(ctx)
	if err != nil {
		return 0, trace.Wrap(err)
	}
	return majorOf(info.ServerVersion)
}

// majorOf returns the major number of a version such as "14.2.3" or
// "v18.0.0-dev".
func majorOf(version string) (int, error) {
	head, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	major, err := strconv.Atoi(head)
	if err != nil {
		return 0, trace.BadParameter("the server reports an unreadable version %q", version)
	}
	return major, nil
}
