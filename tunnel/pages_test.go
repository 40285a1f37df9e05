package tunnel

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// lines are headers as a client sends them.
func lines(header map[string]string) string {
	var text strings.Builder
	for name, value := range header {
		fmt.Fprintf(&text, "%s: %s\r\n", name, value)
	}
	return text.String()
}

// TestPagesOfOthersShowAndLoadNothing has a browser in which a page of somebody
// else shows the application in a frame, and loads it as a script, whether or
// not the request goes the short way.
func TestPagesOfOthersShowAndLoadNothing(t *testing.T) {
	var asked atomic.Int64
	f := newFakeTeleport(t, func(http.ResponseWriter, *http.Request, string) { asked.Add(1) })
	r := run(t, f.Listener.Addr().String(), nil)
	require.Equal(t, http.StatusOK, r.connect(t).get(t, "/").status)
	r.carriedPlainly(t)
	asked.Store(0)
	for way, more := range map[string]string{"plain": "", "other": "Content-Length: 0\r\n"} {
		for name, header := range map[string]map[string]string{
			"a frame":                            fetched("cross-site", "navigate", "iframe", "https://evil.example/"),
			"a script for a page of this host's": fetched("same-site", "no-cors", "script", "http://localhost:3000/"),
			"a frame of who doesn't say":         fetched("cross-site", "navigate", "iframe"),
		} {
			l := r.connect(t)

			l.send(t, "GET / HTTP/1.1\r\nHost: localhost\r\n"+lines(header)+more+"\r\n")

			got := l.answer(t)
			require.Equal(t, http.StatusForbidden, got.status, "%s, %s", name, way)
			require.Equal(t, kindHost, got.kind())
			require.NotContains(t, got.body, `("")`, "it names the page, or what is known of it")
		}
	}
	require.Zero(t, asked.Load(), "the application was asked")
}

// TestApplicationsPagesLeadToEachOther has the pages of two applications behind
// one proxy: each is another site to the other, of which a browser tells where
// it trusts the way. For http://NAME it doesn't, and says nothing.
func TestApplicationsPagesLeadToEachOther(t *testing.T) {
	_, _, client := runProxy(t, nil)
	for _, test := range []struct {
		name   string
		header map[string]string
		want   int
	}{
		{"a page's own script", fetched("same-origin", "no-cors", "script", "http://a/"), http.StatusOK},
		{"a page's own frame", fetched("same-origin", "navigate", "iframe", "http://a/"), http.StatusOK},
		{"a link of the other", fetched("cross-site", "navigate", "document", "http://b/"), http.StatusOK},
		{"a frame of the other, of which nothing is said", map[string]string{"Referer": "http://b/"}, http.StatusOK},
		{"a frame of the other", fetched("cross-site", "navigate", "iframe", "http://b/"), http.StatusForbidden},
		{"a script for the other", fetched("same-site", "no-cors", "script", "http://b/"), http.StatusForbidden},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := request(t, http.MethodGet, "http://a/", nil)
			for name, value := range test.header {
				asked.Header.Set(name, value)
			}

			got := fetch(t, client, asked)

			require.Equal(t, test.want, got.status, got.body)
		})
	}
}
