package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"time"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"
)

// authoritiesAge is for how long fetched authorities serve other outputs of the
// same round. A rotation is followed by WatchAuthorities, not by this age.
const authoritiesAge = 10 * time.Second

// Authorities returns the cluster's host, user and database authorities as the
// identity sees them.
func (b *Bot) Authorities(ctx context.Context, creds *Credentials) (*Authorities, error) {
	clt, release, err := b.client(ctx, creds)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	defer release()
	var out Authorities
	for _, want := range []struct {
		kind types.CertAuthType
		into *[]Authority
	}{
		{types.HostCA, &out.Host},
		{types.UserCA, &out.User},
		{types.DatabaseCA, &out.Database},
	} {
		callCtx, cancel := context.WithTimeout(ctx, rpcTimeout)
		cas, err := clt.GetCertAuthorities(callCtx, want.kind, false)
		cancel()
		if err != nil {
			err = translate("fetching the cluster's certificate authorities", err)
			b.forgetBroken(creds, clt, err)
			return nil, err
		}
		for _, ca := range cas {
			*want.into = append(*want.into, authorityOf(ca))
		}
	}
	return &out, nil
}

// authorityOf takes the public half of an authority. The active keys come
// first, then those that are trusted additionally during a rotation: the order
// in which Teleport's own clients write them.
func authorityOf(ca types.CertAuthority) Authority {
	a := Authority{ClusterName: ca.GetClusterName()}
	for _, set := range []types.CAKeySet{ca.GetActiveKeys(), ca.GetAdditionalTrustedKeys()} {
		for _, pair := range set.TLS {
			a.TLSCerts = append(a.TLSCerts, pair.Cert)
		}
		for _, pair := range set.SSH {
			a.SSHKeys = append(a.SSHKeys, pair.PublicKey)
		}
	}
	return a
}

// Fingerprint is equal for equal authorities in equal order: it changes when a
// rotation adds, swaps or removes a key, and at no other time.
func (a *Authorities) Fingerprint() string {
	h := sha256.New()
	for _, list := range [][]Authority{a.Host, a.User, a.Database} {
		writeAuthorities(h, list)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func writeAuthorities(h hash.Hash, list []Authority) {
	h.Write([]byte{0xff, byte(len(list))})
	for _, a := range list {
		h.Write([]byte(a.ClusterName))
		for _, part := range [][][]byte{a.TLSCerts, a.SSHKeys} {
			h.Write([]byte{0xfe, byte(len(part))})
			for _, item := range part {
				h.Write(item)
				h.Write([]byte{0})
			}
		}
	}
}

// WatchAuthorities calls changed (from its own goroutine's place, not
// concurrently) whenever the server reports a change of a certificate
// authority, until ctx ends or the stream breaks. It returns nil only when ctx
// ended. An event is a hint to look again, never content.
func (b *Bot) WatchAuthorities(ctx context.Context, creds *Credentials, changed func()) error {
	clt, release, err := b.client(ctx, creds)
	if err != nil {
		return trace.Wrap(err)
	}
	defer release()
	watcher, err := clt.NewWatcher(ctx, types.Watch{
		Name: "rollcall-authorities",
		Kinds: []types.WatchKind{{
			Kind: types.KindCertAuthority,
			Filter: types.CertAuthorityFilter{
				types.HostCA:     creds.ClusterName,
				types.UserCA:     creds.ClusterName,
				types.DatabaseCA: creds.ClusterName,
			}.IntoMap(),
		}},
	})
	if err != nil {
		err = translate("watching the certificate authorities", err)
		b.forgetBroken(creds, clt, err)
		return err
	}
	defer watcher.Close()
	for {
		select {
		case event := <-watcher.Events():
			// OpInit means that the watch stands: whatever changed before
			// it must be looked for too.
			if event.Type == types.OpInit || event.Type == types.OpPut {
				changed()
			}
		case <-watcher.Done():
			if ctx.Err() != nil {
				return nil
			}
			err := watcher.Error()
			if err == nil {
				err = errors.New("the server closed the stream")
			}
			err = translate("watching the certificate authorities", err)
			b.forgetBroken(creds, clt, err)
			return err
		case <-ctx.Done():
			return nil
		}
	}
}
