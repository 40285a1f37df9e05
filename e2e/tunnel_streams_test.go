package e2e

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

func newHash() hash.Hash { return sha256.New() }

// eventStream is an open stream of server-sent events.
type eventStream struct {
	response *http.Response
	lines    *bufio.Reader
}

// listen opens the application's stream; it's closed when the test ends.
func (v *visitor) listen(t *testing.T) *eventStream {
	t.Helper()
	response, err := v.Do(v.request(t, http.MethodGet, "/events", nil))
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	return &eventStream{response, bufio.NewReader(response.Body)}
}

// next has the application send an event, and waits until it's here: nothing
// else is sent meanwhile, so nobody may hold it back.
func (e *eventStream) next(t *testing.T, web *harness.WebApp, event string) {
	t.Helper()
	web.Emit(t, event)
	for _, want := range []string{"data: " + event, ""} {
		line, err := e.lines.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, want+"\n", line)
	}
}

// socket is an open WebSocket.
type socket struct{ *websocket.Conn }

// socketTo opens a WebSocket as a browser's page at the tunnel's own address
// does; it's closed when the test ends.
func (v *visitor) socketTo(t *testing.T) *socket {
	t.Helper()
	header := v.header.Clone()
	if !strings.HasPrefix(v.at, "/") {
		header.Set("Origin", "http://"+v.host())
	}
	conn, response, err := (&websocket.Dialer{NetDialContext: dialer(v.at), HandshakeTimeout: patience}).DialContext(
		t.Context(), "ws://"+v.host()+"/ws", header)
	if errors.Is(err, websocket.ErrBadHandshake) {
		body, _ := io.ReadAll(response.Body)
		t.Fatalf("WebSocket: %s: %s", response.Status, body)
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &socket{conn}
}

// says sends a message and waits for the same.
func (s *socket) says(t *testing.T, message string) {
	t.Helper()
	require.NoError(t, s.trySay(message))
}

func (s *socket) trySay(message string) error {
	if err := s.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if err := s.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
		return err
	}
	_, got, err := s.ReadMessage()
	if err == nil && string(got) != message {
		err = fmt.Errorf("got %q, want %q", got, message)
	}
	return err
}

// line is an open TCP connection.
type line struct{ net.Conn }

func call(t *testing.T, at string) *line {
	t.Helper()
	conn, err := dialer(at)(t.Context(), "", "")
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &line{conn}
}

// tryCall opens a connection, uses it once and closes it.
func tryCall(t *testing.T, at string) error {
	conn, err := dialer(at)(t.Context(), "", "")
	if err != nil {
		return err
	}
	defer conn.Close()
	return (&line{conn}).trySay("hello")
}

// says sends bytes and waits for the same.
func (l *line) says(t *testing.T, message string) {
	t.Helper()
	require.NoError(t, l.trySay(message))
}

func (l *line) trySay(message string) error {
	if err := l.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(l, message); err != nil {
		return err
	}
	got := make([]byte, len(message))
	if _, err := io.ReadFull(l, got); err != nil {
		return err
	}
	if string(got) != message {
		return fmt.Errorf("got %.100q, want %.100q", got, message)
	}
	return nil
}

// ends reads the rest, which must be nothing but the end.
func (l *line) ends(t *testing.T) {
	t.Helper()
	require.NoError(t, l.SetDeadline(time.Now().Add(patience)))
	rest, err := io.ReadAll(l)
	require.NoError(t, err)
	require.Empty(t, rest)
}

// endOurs ends this side alone.
func (l *line) endOurs(t *testing.T) {
	t.Helper()
	half, ok := l.Conn.(interface{ CloseWrite() error })
	require.True(t, ok)
	require.NoError(t, half.CloseWrite())
}
