package cluster

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/stretchr/testify/require"
)

func TestNewKeyIsP256(t *testing.T) {
	key, err := NewKey()
	require.NoError(t, err)
	private, ok := key.Signer.(*ecdsa.PrivateKey)
	require.True(t, ok)
	require.Equal(t, 256, private.Curve.Params().BitSize)
	block, rest := pem.Decode(key.PrivatePEM)
	require.Equal(t, "PRIVATE KEY", block.Type)
	require.Empty(t, rest)
	require.True(t, bytes.HasPrefix(key.PublicSSH, []byte("ecdsa-sha2-nistp256 ")))
	require.True(t, bytes.HasPrefix(key.PublicTLS, []byte("-----BEGIN PUBLIC KEY-----\n")))
}

func TestLoadKeyReadsWhatWasWritten(t *testing.T) {
	p256, err := NewKey()
	require.NoError(t, err)
	rsaKey, err := NewRSAKey()
	require.NoError(t, err)
	_, isRSA := rsaKey.Signer.(*rsa.PrivateKey)
	require.True(t, isRSA)
	sec1, err := x509.MarshalECPrivateKey(p256.Signer.(*ecdsa.PrivateKey))
	require.NoError(t, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	edwardsDER, err := x509.MarshalPKCS8PrivateKey(edwards)
	require.NoError(t, err)
	for name, content := range map[string][]byte{
		"PKCS8 ECDSA":   p256.PrivatePEM,
		"PKCS1 RSA":     rsaKey.PrivatePEM,
		"SEC1 ECDSA":    pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}),
		"PKCS8 Ed25519": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: edwardsDER}),
	} {
		t.Run(name, func(t *testing.T) {
			key, err := LoadKey(content)
			require.NoError(t, err)
			require.Equal(t, content, key.PrivatePEM)
		})
	}
}

func TestLoadKeyRefuses(t *testing.T) {
	for name, content := range map[string]string{
		"nothing":       "",
		"no PEM":        "hello",
		"a certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"damaged":       "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := LoadKey([]byte(content))
			require.Error(t, err)
		})
	}
}

func TestNewCredentials(t *testing.T) {
	authority := newTestAuthority(t, testClusterName)
	creds := authority.credentials(userCert{name: "bot-test", generation: 12})
	require.Equal(t, uint64(12), creds.Generation())
	require.True(t, creds.Renewable())
	require.Equal(t, testClusterName, creds.ClusterName)
	require.Equal(t, "bot-test", creds.Username())
	require.Equal(t, "bot-test", creds.SSH.KeyId)
	require.Equal(t, creds.X509, creds.TLS.Leaf)

	once := authority.credentials(userCert{name: "bot-test"})
	require.Zero(t, once.Generation())
	require.False(t, once.Renewable())
}

func TestNewCredentialsRefuses(t *testing.T) {
	authority := newTestAuthority(t, testClusterName)
	key, err := NewKey()
	require.NoError(t, err)
	other, err := NewKey()
	require.NoError(t, err)
	foreign := authority.user(other.PublicSSH, userCert{name: "bot-test"})
	tests := map[string]struct {
		change func(*proto.Certs)
		want   string
	}{
		"no TLS certificate":   {func(c *proto.Certs) { c.TLS = nil }, "no PEM certificate"},
		"another's TLS":        {func(c *proto.Certs) { c.TLS = foreign.TLS }, "TLS certificate belongs to another key"},
		"another's SSH":        {func(c *proto.Certs) { c.SSH = foreign.SSH }, "belongs to another key"},
		"a key in SSH's place": {func(c *proto.Certs) { c.SSH = key.PublicSSH }, "plain key"},
		"damaged SSH":          {func(c *proto.Certs) { c.SSH = []byte("x") }, "reading the SSH certificate"},
		"damaged authority":    {func(c *proto.Certs) { c.TLSCACerts = append(c.TLSCACerts, []byte("x")) }, "certificate authorities"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			certs := authority.user(key.PublicSSH, userCert{name: "bot-test"})
			test.change(certs)
			_, err := NewCredentials(key, certs)
			require.ErrorContains(t, err, test.want)
		})
	}
	// A server may leave the SSH certificate out.
	certs := authority.user(key.PublicSSH, userCert{name: "bot-test"})
	certs.SSH = nil
	creds, err := NewCredentials(key, certs)
	require.NoError(t, err)
	require.Nil(t, creds.SSH)
}
