package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/gravitational/teleport/api/client"
	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/teleport/api/utils"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"
)

// bareCommand makes this program the bare loop; its work comes by stdin.
const bareCommand = "bare-loop"

// bareTTL is the certificates' life, as both agents ask for it.
const bareTTL = time.Hour

// bareWork is what the bare loop has to do.
type bareWork struct {
	Proxy, ProxyCA, Cluster string
	Token, User, Role       string
	Apps                    []string
	AtOnce                  int
}

// bareLoop makes the requests that any agent has to make against this server,
// and nothing else: no files, no checks, no waiting. It's the server's own
// limit, as the agent's time can be compared with.
type bareLoop struct {
	work bareWork
	// bot and impersonated are one connection each, shared by all requests.
	bot, impersonated *client.Client
}

// runBare does the work that stdin describes and returns the exit code.
func runBare(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) int {
	loop := &bareLoop{}
	if err := json.NewDecoder(stdin).Decode(&loop.work); err != nil {
		fmt.Fprintf(stderr, "bare loop: %v\n", err)
		return exitUsage
	}
	if err := loop.run(ctx); err != nil {
		fmt.Fprintf(stderr, "bare loop: %v\n", err)
		return exitFailed
	}
	fmt.Fprintf(stdout, "%d certificates\n", len(loop.work.Apps))
	return 0
}

func (b *bareLoop) run(ctx context.Context) error {
	key, err := newBareKey()
	if err != nil {
		return err
	}
	joined, err := b.join(ctx, key)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if b.bot, err = b.connect(ctx, key, joined); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer b.bot.Close()
	if key, err = newBareKey(); err != nil {
		return err
	}
	certs, err := b.bot.GenerateUserCerts(ctx, b.request(key))
	if err != nil {
		return fmt.Errorf("impersonate: %w", err)
	}
	certs.TLSCACerts = joined.TLSCACerts
	if b.impersonated, err = b.connect(ctx, key, certs); err != nil {
		return fmt.Errorf("connect as the role: %w", err)
	}
	defer b.impersonated.Close()
	for _, authority := range []types.CertAuthType{types.HostCA, types.UserCA, types.DatabaseCA} {
		if _, err := b.bot.GetCertAuthorities(ctx, authority, false); err != nil {
			return fmt.Errorf("authorities: %w", err)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(b.work.AtOnce)
	for _, app := range b.work.Apps {
		group.Go(func() error { return b.application(ctx, app) })
	}
	return group.Wait()
}

// application makes the three requests of one application certificate.
func (b *bareLoop) application(ctx context.Context, name string) error {
	found, err := b.impersonated.ListResources(ctx, proto.ListResourcesRequest{
		ResourceType: types.KindAppServer, Limit: 1, PredicateExpression: fmt.Sprintf("name == %q", name),
	})
	if err != nil {
		return fmt.Errorf("look up %s: %w", name, err)
	}
	if len(found.Resources) == 0 {
		return fmt.Errorf("application %s wasn't found", name)
	}
	server, ok := found.Resources[0].(types.AppServer)
	if !ok {
		return fmt.Errorf("application %s is a %T", name, found.Resources[0])
	}
	app := server.GetApp()
	session, err := b.impersonated.CreateAppSession(ctx, types.CreateAppSessionRequest{
		Username: b.work.User, PublicAddr: app.GetPublicAddr(), ClusterName: b.work.Cluster,
	})
	if err != nil {
		return fmt.Errorf("session for %s: %w", name, err)
	}
	key, err := newBareKey()
	if err != nil {
		return err
	}
	request := b.request(key)
	request.RouteToApp = proto.RouteToApp{
		Name: name, SessionID: session.GetName(), PublicAddr: app.GetPublicAddr(), ClusterName: b.work.Cluster,
	}
	if _, err := b.bot.GenerateUserCerts(ctx, request); err != nil {
		return fmt.Errorf("certificate for %s: %w", name, err)
	}
	return nil
}

// request asks for a certificate with the role's rights.
func (b *bareLoop) request(key *bareKey) proto.UserCertsRequest {
	return proto.UserCertsRequest{
		Username: b.work.User, PublicKey: key.ssh, Expires: time.Now().Add(bareTTL),
		RoleRequests: []string{b.work.Role}, UseRoleRequests: true, RouteToCluster: b.work.Cluster,
	}
}

// join exchanges the token at the proxy.
func (b *bareLoop) join(ctx context.Context, key *bareKey) (*proto.Certs, error) {
	ca, err := os.ReadFile(b.work.ProxyCA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	expires := time.Now().Add(bareTTL)
	body, err := json.Marshal(types.RegisterUsingTokenRequest{
		Role: types.RoleBot, Token: b.work.Token, PublicTLSKey: key.tls, PublicSSHKey: key.ssh, Expires: &expires,
	})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"https://"+b.work.Proxy+"/v1/webapi/host/credentials", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %.200s", response.Status, answer)
	}
	certs := &proto.Certs{}
	return certs, json.Unmarshal(answer, certs)
}

// connect dials the Auth Service through the proxy.
func (b *bareLoop) connect(ctx context.Context, key *bareKey, certs *proto.Certs) (*client.Client, error) {
	pair, err := tls.X509KeyPair(certs.TLS, key.private)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	for _, ca := range certs.TLSCACerts {
		if !roots.AppendCertsFromPEM(ca) {
			return nil, errors.New("the answer has an unreadable authority")
		}
	}
	return client.New(ctx, client.Config{
		Addrs: []string{b.work.Proxy},
		Credentials: []client.Credentials{client.LoadTLS(&tls.Config{
			Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: utils.EncodeClusterName(b.work.Cluster),
		})},
		ALPNSNIAuthDialClusterName: b.work.Cluster,
		DialInBackground:           true,
	})
}

// bareKey is a fresh P-256 key in the forms that requests take.
type bareKey struct{ private, tls, ssh []byte }

func newBareKey() (*bareKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	authorized, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	return &bareKey{
		private: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		tls:     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		ssh:     ssh.MarshalAuthorizedKey(authorized),
	}, nil
}
