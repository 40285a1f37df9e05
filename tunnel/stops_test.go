package tunnel

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// ridingClients are the two kinds of clients whose plain requests are carried
// plainly. Those that have posted something http.Server takes for unused ones.
func ridingClients() map[string]func(*testing.T, *rig) *localClient {
	return map[string]func(*testing.T, *rig) *localClient{
		"all is plain": func(t *testing.T, r *rig) *localClient {
			l := r.connect(t)
			l.get(t, "/")
			return l
		},
		"another request came before": func(t *testing.T, r *rig) *localClient { return r.connectAfterPost(t) },
	}
}

func TestAStopEndsConnections(t *testing.T) {
	for name, connect := range ridingClients() {
		t.Run(name, func(t *testing.T) {
			goOn, asked := make(chan struct{}), make(chan struct{}, 1)
			f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
				if r.URL.Path == "/busy" {
					asked <- struct{}{}
					<-goOn
				}
				w.Header().Set(cameBy, r.RemoteAddr)
				fmt.Fprint(w, r.URL.Path)
			})
			r := run(t, f.Listener.Addr().String(), nil)
			idle, busy := connect(t, r), connect(t, r)
			busy.send(t, "GET /busy HTTP/1.1\r\nHost: localhost\r\n\r\n")
			<-asked
			began := time.Now()

			stopped := make(chan error, 1)
			go func() { stopped <- r.stop() }()

			_, err := idle.in.ReadByte()
			require.ErrorIs(t, err, io.EOF, "who has nothing to do goes first")
			close(goOn)
			last := busy.head(t)
			require.True(t, last.Close, "who has hears that it's the last answer")
			body, err := io.ReadAll(last.Body)
			require.NoError(t, err)
			require.Equal(t, "/busy", string(body), "and gets it whole")
			_, err = busy.in.ReadByte()
			require.ErrorIs(t, err, io.EOF, "and that was the last")
			require.NoError(t, <-stopped)
			require.Less(t, time.Since(began), drainTime)
		})
	}
}

func TestAStopCutsAnAnswerThatDoesntEnd(t *testing.T) {
	for name, connect := range ridingClients() {
		t.Run(name, func(t *testing.T) {
			gone := make(chan struct{})
			f := newFakeTeleport(t, func(w http.ResponseWriter, r *http.Request, _ string) {
				w.Header().Set(cameBy, r.RemoteAddr)
				if r.URL.Path != "/endless" {
					return
				}
				fmt.Fprint(w, "some")
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
				close(gone)
			})
			r := run(t, f.Listener.Addr().String(), nil)
			l := connect(t, r)
			l.send(t, "GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
			resp := l.head(t)

			require.NoError(t, r.stop())

			<-gone
			_, err := io.ReadAll(resp.Body)
			require.Error(t, err)
		})
	}
}

// TestWhoHasJustComeIsServedDuringAStop: nobody else can get its connection.
func TestWhoHasJustComeIsServedDuringAStop(t *testing.T) {
	f := newFakeTeleport(t, hello)
	r := run(t, f.Listener.Addr().String(), nil)
	before := r.connect(t)
	before.get(t, "/")
	fresh := r.connect(t)
	eventually(t, "both are accepted", func() bool { return r.metric("connections", prometheus.Labels{}) == 2 })

	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	_, err := before.in.ReadByte()
	require.ErrorIs(t, err, io.EOF, "it has begun to stop")
	fresh.send(t, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

	require.Equal(t, "serial-1", fresh.answer(t).body)
	require.NoError(t, <-stopped)
}

func TestTheLastAnswerSaysSo(t *testing.T) {
	v := newRide(t.Context(), &express{}, &client{})
	for _, stopping := range []bool{false, true} {
		v.stopping = stopping
		var sent bytes.Buffer
		v.out.Reset(&sent)

		v.writeHead(&http.Response{StatusCode: http.StatusOK, Header: http.Header{}}, false)

		require.NoError(t, v.out.Flush())
		resp, err := http.ReadResponse(bufio.NewReader(&sent), nil)
		require.NoError(t, err)
		require.Equal(t, stopping, resp.Close)
	}
}
