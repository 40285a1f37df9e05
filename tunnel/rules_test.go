package tunnel

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	public = "grafana.apps.example.com:3080"
	uri    = "http://127.0.0.1:35097"
	base   = "http://localhost:1234"
)

func local(host string) bool { return hostname(host) == "localhost" }

func TestHostCheck(t *testing.T) {
	h := hosts{allowed: []string{"localhost", "127.0.0.1", "::1", "192.0.2.7", "grafana.internal"}}
	for host, want := range map[string]bool{
		"localhost": true, "localhost:1234": true, "LOCALHOST:1": true, "localhost.": true, "a.localhost:80": true,
		"127.0.0.1:80": true, "[::1]:80": true, "[::1]": true, "::1": true, "192.0.2.7": true, "grafana.internal:9": true,
		"":             true, // HTTP/1.0
		"evil.example": false, "localhost.evil.example": false, "evil-localhost": false, "evillocalhost": false,
		"127.0.0.1.evil.example": false, "127.0.0.2": false, "[::2]:80": false, "0.0.0.0": false, "localhost@evil.example": false,
		"evil.example:localhost": false, "x.grafana.internal": false, "\x00": false,
	} {
		require.Equal(t, want, h.permits(host), "%q", host)
	}
	require.True(t, hosts{any: true}.permits("evil.example"))
}

func FuzzHostCheck(f *testing.F) {
	for _, seed := range []string{"localhost", "evil.example:80", "[::1]:9", "a.localhost", "localhost."} {
		f.Add(seed)
	}
	h := hosts{allowed: []string{"localhost", "127.0.0.1", "::1"}}
	f.Fuzz(func(t *testing.T, host string) {
		if !h.permits(host) {
			return
		}
		name := hostname(host)
		if name != "" && name != "localhost" && name != "127.0.0.1" && name != "::1" && !strings.HasSuffix(name, ".localhost") && host != "" {
			t.Fatalf("%q was let in as %q", host, name)
		}
	})
}

// fetched is what a browser says of a request for a page: the page's site, how
// and what for it asks, and perhaps the page.
func fetched(site, mode, dest string, page ...string) map[string]string {
	header := map[string]string{"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
	for _, referer := range page {
		header["Referer"] = referer
	}
	return header
}

func TestOriginCheck(t *testing.T) {
	const here = "localhost:1234"
	for _, test := range []struct {
		name, method, asked string
		header              map[string]string
		want                bool
	}{
		{"a program", "POST", here, nil, true},
		{"our own page", "POST", here, map[string]string{"Origin": base}, true},
		{"our own page behind a web server with TLS", "POST", "grafana.internal", map[string]string{"Origin": "https://grafana.internal"}, true},
		{"our own page that reads", "GET", here, map[string]string{"Origin": base, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, true},
		{"a page on another port, maybe of another user", "POST", here, map[string]string{"Origin": "http://localhost:3000"}, false},
		{"a page on another port that reads", "GET", here, map[string]string{"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}, false},
		{"the public address", "POST", here, map[string]string{"Origin": "https://" + public}, true},
		{"who only pretends to be the public address", "POST", here, map[string]string{"Origin": "http://" + public}, false},
		{"a listed page", "POST", here, map[string]string{"Origin": "https://wiki.internal:8443"}, true},
		{"a form of another site", "POST", here, map[string]string{"Origin": "https://evil.example"}, false},
		{"a sandboxed page", "POST", here, map[string]string{"Origin": "null", "Sec-Fetch-Site": "cross-site"}, false},
		{"our own page without a Referer", "POST", here, map[string]string{"Origin": "null", "Sec-Fetch-Site": "same-origin"}, true},
		{"a form without Origin", "POST", here, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, false},
		{"our own form without Origin", "POST", here, map[string]string{"Sec-Fetch-Site": "same-origin"}, true},
		{"a link from another site", "GET", here, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, true},
		{"a link, as browsers of today tell of it", "GET", here, fetched("cross-site", "navigate", "document"), true},
		{"a link from a page on another port", "GET", here, fetched("same-site", "navigate", "document"), true},
		{"a bookmark", "GET", here, fetched("none", "navigate", "document"), true},
		{"our own page's script", "GET", here, fetched("same-origin", "no-cors", "script"), true},
		{"our own frame", "GET", here, fetched("same-origin", "navigate", "iframe"), true},
		{"a frame of another site", "GET", here, fetched("cross-site", "navigate", "iframe"), false},
		{"an object of another site", "GET", here, fetched("cross-site", "navigate", "object"), false},
		{"a frame of a page on another port", "GET", here, fetched("same-site", "navigate", "iframe"), false},
		{"a script for a page on another port", "GET", here, fetched("same-site", "no-cors", "script", "http://localhost:3000/"), false},
		{"a script for another site", "GET", here, fetched("cross-site", "no-cors", "script"), false},
		{"a frame of a listed page", "GET", here, fetched("cross-site", "navigate", "iframe", "https://wiki.internal:8443/"), true},
		{"our own picture, by way of another site", "GET", here, fetched("cross-site", "no-cors", "image", base+"/page"), true},
		{"a Referer that only begins like ours", "GET", here, fetched("cross-site", "no-cors", "script", base+".evil.example/"), false},
		{"a Referer that is none", "GET", here, fetched("cross-site", "no-cors", "script", "::"), false},
		{"a form on another port without Origin", "POST", here, fetched("same-site", "navigate", "document"), false},
		{"another site's picture", "GET", here, map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, false},
		{"another site's script that reads", "GET", here, map[string]string{"Origin": "https://evil.example"}, false},
		{"another site's question whether it may", "OPTIONS", here, map[string]string{"Origin": "https://evil.example"}, false},
		{"another site's WebSocket", "GET", here, map[string]string{"Origin": "https://evil.example", "Upgrade": "websocket"}, false},
		{"our own WebSocket", "GET", here, map[string]string{"Origin": base, "Upgrade": "websocket"}, true},
		{"a program's WebSocket", "GET", here, map[string]string{"Upgrade": "websocket"}, true},
		{"a name that only begins like ours", "DELETE", here, map[string]string{"Origin": "http://localhost.evil.example"}, false},
		{"nonsense", "GET", here, map[string]string{"Origin": "::"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, "/", nil)
			r.Host = test.asked
			for name, value := range test.header {
				r.Header.Set(name, value)
			}
			// Whatever name a request may have, its page is another matter.
			for _, any := range []bool{false, true} {
				h := hosts{any: any, allowed: []string{"localhost", "127.0.0.1"}, pages: []string{"wiki.internal"}}
				require.Equal(t, test.want, h.permitsOrigin(r, public))
			}
		})
	}
}

const secret = "insecure-do-not-use-this"

func loadedToken(t testing.TB) *token {
	tok := &token{read: func() (string, error) { return secret + "\n", nil }}
	require.NoError(t, tok.load())
	return tok
}

func TestBearerToken(t *testing.T) {
	basic := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	for _, test := range []struct {
		name, proxyAuth, auth string
		want                  bool
		// left is the Authorization that the application gets.
		left string
	}{
		{"none", "", "", false, ""},
		{"in Authorization", "", "Bearer " + secret, true, ""},
		{"whatever the case", "", "bEARER  " + secret + " ", true, ""},
		{"in Proxy-Authorization", "Bearer " + secret, "", true, ""},
		{"beside the application's own", "Bearer " + secret, "Bearer of-the-application", true, "Bearer of-the-application"},
		{"beside Basic of the application", "Bearer " + secret, basic("a:b"), true, basic("a:b")},
		{"as the password of a proxy", basic("any:" + secret), "", true, ""},
		{"wrong", "", "Bearer " + secret + "x", false, "Bearer " + secret + "x"},
		{"wrong there, right here", "Bearer x", "Bearer " + secret, true, ""},
		{"in both", "Bearer " + secret, "Bearer " + secret, true, ""},
		{"bare", "", secret, false, secret},
		{"as a user", basic(secret + ":"), "", false, ""},
		{"no base64", "Basic ?", "", false, ""},
		{"another scheme", "", "Digest " + secret, false, "Digest " + secret},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := http.Header{}
			set := func(name, value string) {
				if value != "" {
					header.Set(name, value)
				}
			}
			set(headerProxyAuth, test.proxyAuth)
			set(headerAuth, test.auth)
			require.Equal(t, test.want, loadedToken(t).admit(header))
			require.Empty(t, header.Get(headerProxyAuth), "the token went on")
			require.Equal(t, test.left, header.Get(headerAuth))
		})
	}
}

func TestTokenIsRead(t *testing.T) {
	require.True(t, (&token{}).admit(http.Header{}), "no token is asked for")
	short := &token{read: func() (string, error) { return "short", nil }}
	err := short.load()
	require.ErrorContains(t, err, "16 characters")
	require.NotContains(t, err.Error(), "short:")
	require.False(t, short.admit(http.Header{"Authorization": {"Bearer short"}}))

	text, failed := secret, error(nil)
	tok := &token{read: func() (string, error) { return text, failed }}
	require.NoError(t, tok.load())
	failed = errors.New("gone")
	require.Error(t, tok.load())
	require.True(t, tok.admit(http.Header{"Authorization": {"Bearer " + secret}}), "the one before stays")
	text, failed = "another-token-of-many-characters", nil
	require.NoError(t, tok.load())
	require.False(t, tok.admit(http.Header{"Authorization": {"Bearer " + secret}}))
}

func FuzzBearerToken(f *testing.F) {
	for _, seed := range []string{"", "Bearer", "Bearer " + secret, "Basic " + secret, "Basic Og==", " bearer x"} {
		f.Add(seed)
	}
	tok := loadedToken(f)
	f.Fuzz(func(t *testing.T, value string) {
		if tok.matches(value) && !strings.Contains(value, secret) && !strings.HasPrefix(strings.ToLower(strings.TrimSpace(value)), "basic") {
			t.Fatalf("%q was let in", value)
		}
	})
}

func answer(status int, header map[string]string, body string) *http.Response {
	resp := &http.Response{StatusCode: status, Header: http.Header{}, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
	for name, value := range header {
		resp.Header.Set(name, value)
	}
	return resp
}

func TestLoginRedirectIsRecognised(t *testing.T) {
	for location, want := range map[string]bool{
		"https://teleport.example.com:3080/web/launch/grafana.apps.example.com?path=%2F": true,
		"https://other-name.example.com/web/launch/grafana.apps.example.com":             true,
		"https://teleport.example.com/web/launch/grafana.apps.example.com/cluster/x":     true,
		"https://teleport.example.com/web/login?redirect_uri=x":                          false, // where an application's /logout may lead
		"https://teleport.example.com/web/launch/other.example.com":                      false,
		"https://grafana.apps.example.com/web/login":                                     false, // the application's own
		"https://grafana.apps.example.com:3080/web/launch/grafana.apps.example.com":      false,
		"https://sso.example.com/web/login":                                              false,
		"https://sso.example.com/web/launch/other.example.com":                           false,
		"https://teleport.example.com/web/cluster/x":                                     false,
		"/web/login": false,
		"/login":     false,
		"":           false,
		"https://teleport.example.com:bad:port/web/login": false,
	} {
		resp := answer(http.StatusFound, map[string]string{"Location": location}, "")
		require.Equal(t, want, asksForLogin(resp, "teleport.example.com", public), "%q", location)
	}
	ok := answer(http.StatusOK, map[string]string{"Location": "https://teleport.example.com/web/launch/grafana.apps.example.com"}, "")
	require.False(t, asksForLogin(ok, "teleport.example.com", public))
}

func TestForbiddenIsRecognised(t *testing.T) {
	text := map[string]string{"Content-Type": plainText}
	for _, test := range []struct {
		name          string
		resp          *http.Response
		want, unready bool
	}{
		{"Teleport's", answer(403, text, "Forbidden\n"), true, true},
		{"an application's page", answer(403, map[string]string{"Content-Type": "text/html"}, "Forbidden\n"), false, false},
		{"an application's JSON", answer(403, text, "{}"), false, false},
		{"with a cookie", answer(403, map[string]string{"Content-Type": plainText, "Set-Cookie": "a=b"}, "Forbidden\n"), false, false},
		{"another text of that length", answer(403, text, "forbidden\n"), false, false},
		{"Teleport without its application's tunnel", answer(500, nil, "Internal Server Error"), false, true},
		{"an application's fault", answer(500, text, "panic"), false, false},
		{"success", answer(200, text, "Forbidden\n"), false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.want, looksForbidden(test.resp))
			require.Equal(t, test.unready, looksUnready(test.resp))
			body, err := io.ReadAll(test.resp.Body)
			require.NoError(t, err)
			require.EqualValues(t, test.resp.ContentLength, len(body), "the body was eaten")
		})
	}
}

func TestRequestIsTurnedToTheApplication(t *testing.T) {
	in := httptest.NewRequest(http.MethodPost, "/a%2Fb?x=1;y=2&z", nil)
	in.Host = "localhost:1234"
	for name, value := range map[string]string{
		"Origin": base, "Referer": base + "/page?q=1", "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "http",
		"X-Real-Ip": "203.0.113.7", "Forwarded": "for=x", "Cookie": "a=b; __Host-grv_app_session=x; c=d; __Host-grv_app_session_subject=y",
	} {
		in.Header.Set(name, value)
	}
	r := &httputil.ProxyRequest{In: in, Out: in.Clone(t.Context())}
	r.Out.URL.RawQuery = "cleaned"

	rewriteRequest(r, public, local)

	require.Equal(t, public, r.Out.Host)
	require.Equal(t, "/a%2Fb?x=1;y=2&z", r.Out.URL.RequestURI())
	require.Equal(t, http.Header{
		"Origin": {"https://" + public}, "Referer": {"https://" + public + "/page?q=1"}, "Cookie": {"a=b; c=d"},
	}, r.Out.Header)

	in.Header.Set("Origin", "https://elsewhere.example")
	in.Header.Set("Referer", "::not a URL")
	r = &httputil.ProxyRequest{In: in, Out: in.Clone(t.Context())}
	rewriteRequest(r, public, local)
	require.Equal(t, "https://elsewhere.example", r.Out.Header.Get("Origin"), "what isn't ours stays")
	require.Equal(t, "::not a URL", r.Out.Header.Get("Referer"))
}

func TestAnswerIsTurnedToTheClient(t *testing.T) {
	for value, want := range map[string]string{
		"https://grafana.apps.example.com:3080/x?y#z": "http://localhost:1234/x?y#z",
		"https://grafana.apps.example.com/x":          "http://localhost:1234/x",
		"http://GRAFANA.apps.example.com":             "http://localhost:1234",
		"//grafana.apps.example.com/x":                "http://localhost:1234/x",
		"http://127.0.0.1:35097/inner":                "http://localhost:1234/inner",
		"http://127.0.0.1:9/other":                    "http://127.0.0.1:9/other",
		"https://sso.example.com/x":                   "https://sso.example.com/x",
		"/relative":                                   "/relative",
		"ftp://grafana.apps.example.com/x":            "ftp://grafana.apps.example.com/x",
		"https://x.grafana.apps.example.com/":         "https://x.grafana.apps.example.com/",
		"::":                                          "::",
	} {
		require.Equal(t, want, localURL(value, public, uri, base), "%q", value)
	}
	for line, want := range map[string]string{
		"a=b": "a=b",
		"a=b; Path=/; HttpOnly; Secure; SameSite=Lax":                     "a=b; Path=/; HttpOnly; SameSite=Lax",
		"a=b; Domain=grafana.apps.example.com; Secure":                    "a=b",
		"a=b; domain=.apps.example.com; path=/x":                          "a=b; path=/x",
		"a=b; Domain=other.example.com":                                   "a=b; Domain=other.example.com",
		"a=b; SameSite=None; Secure; Partitioned":                         "a=b",
		"__Host-a=b; Secure; Path=/; SameSite=None":                       "__Host-a=b; Secure; Path=/; SameSite=None",
		"__Secure-a=b; Secure; Domain=grafana.apps.example.com; HttpOnly": "__Secure-a=b; Secure; HttpOnly",
		"a=\"x; Secure": "a=\"x",
	} {
		require.Equal(t, want, localCookie(line, public), "%q", line)
	}
	header := http.Header{
		"Location": {"https://" + public + "/x"}, "Set-Cookie": {"a=b; Secure", "c=d; Secure"},
		"Access-Control-Allow-Origin": {"https://" + public},
	}
	rewriteResponse(header, public, uri, base, base)
	require.Equal(t, http.Header{
		"Location": {base + "/x"}, "Set-Cookie": {"a=b", "c=d"}, "Access-Control-Allow-Origin": {base},
	}, header)
}

func FuzzAnswerIsTurnedToTheClient(f *testing.F) {
	for _, seed := range []string{"https://grafana.apps.example.com/x", "//x", ":", "a=b; Secure", "a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once := localURL(text, public, uri, base)
		require.Equal(t, once, localURL(once, public, uri, base), "it isn't final")
		cookie := localCookie(text, public)
		require.LessOrEqual(t, len(cookie), len(text))
		require.Equal(t, cookie, localCookie(cookie, public))
	})
}

func TestTeleportsOwnPaths(t *testing.T) {
	for path, want := range map[string]bool{
		"/teleport-logout": true, "/Teleport-Logout/": true, "//teleport-logout": true, "/x-teleport-auth": true, "*": true,
		"/": false, "/teleport-logout/x": false, "/api/teleport-logout": false, "": false, "/*": false,
	} {
		require.Equal(t, want, teleportsOwn(path), "%q", path)
	}
}

// procTCP is the kernel's table on a machine of this byte order.
func procTCP(lines ...string) io.Reader {
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	return strings.NewReader(head + strings.Join(lines, "\n") + "\n")
}

func line(from, to netip.AddrPort, state string, uid, inode int) string {
	hex := func(a netip.AddrPort) string {
		raw, text := a.Addr().AsSlice(), ""
		for ; len(raw) > 0; raw = raw[4:] {
			text += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(raw))
		}
		return fmt.Sprintf("%s:%04X", text, a.Port())
	}
	return fmt.Sprintf("   0: %s %s %s 00000000:00000000 00:00000000 00000000 %5d        0 %d 1 0000000000000000 20 4 30 10 -1", hex(from), hex(to), state, uid, inode)
}

func TestPeerInTheKernelsTable(t *testing.T) {
	from, to := netip.MustParseAddrPort("127.0.0.1:40000"), netip.MustParseAddrPort("127.0.0.1:1234")
	six, six2 := netip.MustParseAddrPort("[::1]:40000"), netip.MustParseAddrPort("[::1]:1234")
	mapped, mapped2 := netip.MustParseAddrPort("[::ffff:127.0.0.1]:40000"), netip.MustParseAddrPort("[::ffff:127.0.0.1]:1234")
	for _, test := range []struct {
		name     string
		from, to netip.AddrPort
		table    io.Reader
		want     int64 // -1: not found
	}{
		{"there", from, to, procTCP(line(to, from, "01", 0, 5), line(from, to, "01", 1000, 7)), 1000},
		{"IPv6", six, six2, procTCP(line(six, six2, "01", 1000, 7)), 1000},
		{"IPv4 on an IPv6 socket", from, to, procTCP(line(mapped, mapped2, "01", 1000, 7)), 1000},
		{"IPv4 seen as IPv6 by us", mapped, mapped2, procTCP(line(from, to, "01", 1000, 7)), 1000},
		{"our own end only", from, to, procTCP(line(to, from, "01", 1000, 7)), -1},
		{"belongs to nobody any more", from, to, procTCP(line(from, to, "01", 0, 0)), -1},
		{"of one who tries to take the port", from, to, procTCP(line(from, to, "02", 1001, 7)), -1},
		{"closing", from, to, procTCP(line(from, to, "05", 0, 0)), -1},
		{"has ended its side", from, to, procTCP(line(from, to, "05", 1000, 7)), 1000},
		{"is ending its side", from, to, procTCP(line(from, to, "04", 1000, 7)), 1000},
		{"was told the end", from, to, procTCP(line(from, to, "08", 1000, 7)), 1000},
		{"listens", from, to, procTCP(line(from, to, "0A", 1000, 7)), -1},
		{"another port", from, to, procTCP(line(netip.MustParseAddrPort("127.0.0.1:40001"), to, "01", 1000, 7)), -1},
		{"empty", from, to, procTCP(), -1},
		{"nonsense", from, to, procTCP("x", "0: y z 01 a b c d e f", ": : : 01 : : : : : :"), -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			user, err := findUser(test.table, test.from, test.to)
			if test.want < 0 {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, user)
		})
	}
}

func FuzzPeerTable(f *testing.F) {
	f.Add("   0: 0100007F:9C40 0100007F:04D2 01 0:0 0:0 0 1000 0 7")
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = findUser(procTCP(text), netip.MustParseAddrPort("127.0.0.1:40000"), netip.MustParseAddrPort("127.0.0.1:1234"))
	})
}

func TestListenAddresses(t *testing.T) {
	for listen, want := range map[string]string{
		"tcp://127.0.0.1:1234": "tcp 127.0.0.1:1234", "tcp://[::1]:0/": "tcp [::1]:0", "tcp://:80": "tcp :80",
		"unix:///run/a.sock": "unix /run/a.sock",
		"":                   "", "127.0.0.1:1": "", "tcp://a": "", "tcp://a:b": "", "tcp://a:99999": "", "tcp://u@a:1": "", "tcp://a:1/x": "",
		"unix://a": "", "http://a:1": "", "unix:///" + strings.Repeat("x", 200): "",
	} {
		network, address, err := parseListen(listen)
		if want == "" {
			require.Error(t, err, listen)
			continue
		}
		require.NoError(t, err, listen)
		require.Equal(t, want, network+" "+address)
	}
	require.Equal(t, "8080", (&ProxyOptions{ListenOptions: ListenOptions{Listen: "tcp://127.0.0.1:8080"}}).Subject())
	require.Equal(t, "a.sock", (&ProxyOptions{ListenOptions: ListenOptions{Listen: "unix:///run/a.sock"}}).Subject())
}
