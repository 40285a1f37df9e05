package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNarrator(t *testing.T) {
	var out bytes.Buffer
	n := newNarrator(&out, "")
	n.step("First")
	n.typed("ls")
	n.showed("\na\nb\n")
	n.say("two\n%s", "lines")
	n.step("Second")
	require.Equal(t, "\n1. First\n   $ ls\n   a\n   b\n   two\n   lines\n\n2. Second\n", out.String())

	out.Reset()
	n.color = true
	n.typed("ls")
	require.Equal(t, "   \x1b[32m$ ls\x1b[0m\n", out.String())
}

func TestAnswerNamesTheCaller(t *testing.T) {
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"username":"bot-demo","roles":["a","b"]}`))
	for _, c := range []struct{ assertion, want string }{
		{"head." + claims + ".signature", "You are bot-demo with the roles [a b]; you asked for GET /x.\n"},
		{"", "You are nobody that Teleport knows with the roles []; you asked for GET /x.\n"},
		{"a.%%.c", "You are nobody that Teleport knows with the roles []; you asked for GET /x.\n"},
	} {
		request := httptest.NewRequest(http.MethodGet, "/x", nil)
		request.Header.Set("Teleport-Jwt-Assertion", c.assertion)
		recorder := httptest.NewRecorder()
		answer(recorder, request)
		require.Equal(t, greeting+"\n"+c.want, recorder.Body.String())
	}
}

func TestRound(t *testing.T) {
	for d, want := range map[time.Duration]string{
		41234 * time.Microsecond: "41ms",
		1134 * time.Millisecond:  "1.13s",
		time.Hour:                "1h0m",
		90 * time.Second:         "1m30s",
	} {
		require.Equal(t, want, round(d))
	}
}

func TestUsage(t *testing.T) {
	var out, problems bytes.Buffer
	require.Equal(t, exitUsage, run(context.Background(), []string{"--what"}, &out, &problems))
	require.Contains(t, problems.String(), "-wait")
	problems.Reset()
	require.Equal(t, exitUsage, run(context.Background(), []string{"what"}, &out, &problems))
	require.Equal(t, "demo: unknown argument \"what\"\n", problems.String())
	require.Empty(t, out.String())
}

func TestInterruptedBeforeItBegins(t *testing.T) {
	t.Setenv("ROLLCALL_E2E_BIN", t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, problems bytes.Buffer
	require.Equal(t, exitInterrupted, run(ctx, nil, &out, &problems))
}

func TestFailureIsToldAndCounted(t *testing.T) {
	t.Setenv("ROLLCALL_E2E_BIN", t.TempDir()) // no binaries there
	var out, problems bytes.Buffer
	require.Equal(t, exitFailed, run(context.Background(), nil, &out, &problems))
	require.Contains(t, problems.String(), "demo: failed: cluster:")
	require.Contains(t, problems.String(), "no such file")
}
