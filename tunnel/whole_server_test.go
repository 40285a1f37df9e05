package tunnel

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAQuestionToTheWholeServerPassesTheGuards: net/http's server would answer
// OPTIONS * itself, 200, whoever asks.
func TestAQuestionToTheWholeServerPassesTheGuards(t *testing.T) {
	const right = "Proxy-Authorization: Bearer " + secret + "\r\n"
	for _, test := range []struct {
		name, host, header string
		status             int
		kind               string
	}{
		{"without a token", "localhost", "", http.StatusUnauthorized, kindToken},
		{"for another host", "evil.example", right, http.StatusForbidden, kindHost},
		{"of another page", "localhost", right + "Origin: https://evil.example\r\n", http.StatusForbidden, kindHost},
		{"of who may ask", "localhost", right, http.StatusForbidden, kindPath},
	} {
		t.Run(test.name, func(t *testing.T) {
			var asked atomic.Int64
			f := newFakeTeleport(t, func(http.ResponseWriter, *http.Request, string) { asked.Add(1) })
			r := run(t, f.Listener.Addr().String(), func(o *Options, d *Dependencies, _ *fakeSource) { withToken(o, d) })
			l := r.connect(t)

			l.send(t, "OPTIONS * HTTP/1.1\r\nHost: "+test.host+"\r\n"+test.header+"\r\n")

			got := l.answer(t)
			require.Equal(t, test.status, got.status, got.body)
			require.Equal(t, test.kind, got.kind())
			require.Contains(t, got.body, "rollcall: ")
			require.Zero(t, asked.Load())
		})
	}
}

// TestAQuestionToTheWholeProxyWantsAToken is the same for an application-proxy.
func TestAQuestionToTheWholeProxyWantsAToken(t *testing.T) {
	p, _, _ := runProxy(t, func(o *ProxyOptions, d *Dependencies) {
		o.BearerToken, d.Secret = "/etc/token", func() (string, error) { return secret, nil }
	})
	for header, want := range map[string]int{
		"": http.StatusProxyAuthRequired,
		"Proxy-Authorization: Bearer " + secret + "\r\n": http.StatusForbidden,
	} {
		l := connectTo(t, p.listening.address())

		l.send(t, "OPTIONS * HTTP/1.1\r\nHost: a\r\n"+header+"\r\n")

		require.Equal(t, want, l.answer(t).status)
	}
}
