package cluster

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 wants it, and nothing rests on it.
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gravitational/teleport/api/constants"
	"github.com/gravitational/trace"

	"rollcall/failure"
)

// webSocketGUID is RFC 6455's.
const webSocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// dialUpgraded opens a connection to the proxy behind a load balancer that ends
// TLS: inside an HTTP upgrade, which carries bytes as they are (up to v14) or as
// WebSocket messages (since v15).
//
// The api client has the same, but checks the outer certificate against the
// system's roots alone, and waits for ever for an answer.
func (c *Cluster) dialUpgraded(ctx context.Context, addr string) (net.Conn, error) {
	config, err := c.proxyTLS()
	if err != nil {
		return nil, trace.Wrap(err)
	}
	config.ServerName = hostOf(addr)
	config.NextProtos = []string{alpnHTTP}
	raw, err := c.dialer(ctx).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	conn := tls.Client(raw, config)
	upgraded, err := upgrade(ctx, conn, addr)
	if err != nil {
		_ = raw.Close() // the failed upgrade is what matters
		return nil, trace.Wrap(err)
	}
	return upgraded, nil
}

// upgrade asks for the upgrade and reads the answer, both before ctx ends.
func upgrade(ctx context.Context, conn *tls.Conn, addr string) (net.Conn, error) {
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, trace.Wrap(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var nonce [16]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, trace.Wrap(err)
	}
	key := base64.StdEncoding.EncodeToString(nonce[:])
	if err := upgradeRequest(addr, key).Write(conn); err != nil {
		return nil, trace.Wrap(err)
	}
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		return nil, trace.Wrap(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, failure.New(failure.Configuration,
			"the load balancer in front of the proxy %s answers a connection upgrade with %s: have it pass on the headers Upgrade and Connection (nginx: proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade, proxy_set_header Connection upgrade)", addr, resp.Status)
	}
	if resp.Header.Get(constants.WebAPIConnUpgradeHeader) != constants.WebAPIConnUpgradeTypeWebSocket {
		return &bufferedConn{Conn: conn, reader: reader}, nil
	}
	if resp.Header.Get("Sec-WebSocket-Accept") != acceptKey(key) || resp.Header.Get("Sec-WebSocket-Protocol") != constants.WebAPIConnUpgradeTypeALPN {
		return nil, failure.New(failure.Configuration, "something at %s answers a connection upgrade, but not as a Teleport proxy does", addr)
	}
	return &webSocketConn{Conn: conn, reader: reader}, nil
}

// upgradeRequest offers both forms of the upgrade.
func upgradeRequest(addr, key string) *http.Request {
	header := http.Header{}
	header.Add(constants.WebAPIConnUpgradeHeader, constants.WebAPIConnUpgradeTypeWebSocket)
	header.Add(constants.WebAPIConnUpgradeHeader, constants.WebAPIConnUpgradeTypeALPN)
	header.Set(constants.WebAPIConnUpgradeTeleportHeader, constants.WebAPIConnUpgradeTypeALPN)
	header.Set(constants.WebAPIConnUpgradeConnectionHeader, constants.WebAPIConnUpgradeConnectionType)
	header.Set("Sec-WebSocket-Protocol", constants.WebAPIConnUpgradeTypeALPN)
	header.Set("Sec-WebSocket-Version", "13")
	header.Set("Sec-WebSocket-Key", key)
	return &http.Request{
		Method: http.MethodGet, Host: addr, Header: header,
		URL: &url.URL{Scheme: "https", Host: addr, Path: constants.WebAPIConnUpgrade},
	}
}

func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + webSocketGUID)) //nolint:gosec // see above
	return base64.StdEncoding.EncodeToString(sum[:])
}

// bufferedConn reads first what came together with the answer.
type bufferedConn struct {
	net.Conn
	reader *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// webSocketConn carries bytes in binary WebSocket messages.
type webSocketConn struct {
	net.Conn
	reader *bufio.Reader
	// left is what is still to be read of the message at hand; it belongs to
	// the one who reads.
	left int64

	// write is held while a frame is written: answers to pings go between.
	write sync.Mutex
}

// Read reads from the message at hand, or waits for the next one.
func (c *webSocketConn) Read(p []byte) (int, error) {
	for c.left == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n, err := c.reader.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

// next reads a frame's header, and does with a frame that carries no data what
// it asks for.
func (c *webSocketConn) next() error {
	header, err := ws.ReadHeader(c.reader)
	if err != nil {
		return err
	}
	switch {
	case header.Masked:
		return errors.New("the proxy sent a masked WebSocket frame")
	case header.OpCode == ws.OpClose:
		return io.EOF
	case header.OpCode == ws.OpBinary, header.OpCode == ws.OpContinuation:
		c.left = header.Length
		return nil
	}
	if header.Length > ws.MaxControlFramePayloadSize {
		return errors.New("the proxy sent a WebSocket control frame that is too long")
	}
	payload := make([]byte, header.Length)
	if _, err := io.ReadFull(c.reader, payload); err != nil {
		return err
	}
	switch header.OpCode {
	case ws.OpPing:
		return c.frame(ws.OpPong, payload)
	case ws.OpPong:
		return nil
	default:
		return errors.New("the proxy sent a WebSocket frame that is neither binary nor a control frame")
	}
}

// Write sends one message.
func (c *webSocketConn) Write(p []byte) (int, error) {
	if err := c.frame(ws.OpBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// frame writes one frame. A client's frames are masked; the mask is zero, since
// what travels is TLS, and since Teleport's servers of today don't unmask.
func (c *webSocketConn) frame(code ws.OpCode, payload []byte) error {
	frame := ws.NewFrame(code, true, payload)
	frame.Header.Masked = true
	c.write.Lock()
	defer c.write.Unlock()
	whole, err := ws.CompileFrame(frame)
	if err != nil {
		return err
	}
	_, err = c.Conn.Write(whole)
	return err
}
