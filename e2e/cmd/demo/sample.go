package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"rollcall/e2e/harness"
)

// greeting begins every answer of the sample application.
const greeting = "Hello from the sample application behind Teleport."

// startSample starts the application that stands behind the cluster. It ends
// with the demo.
func startSample(t harness.T) (url string) {
	server := httptest.NewServer(http.HandlerFunc(answer))
	t.Cleanup(server.Close)
	return server.URL
}

// answer greets the caller by the name that Teleport has given it.
func answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, greeting)
	user, roles := caller(r.Header.Get("Teleport-Jwt-Assertion"))
	fmt.Fprintf(w, "You are %s with the roles [%s]; you asked for %s %s.\n", user, strings.Join(roles, " "), r.Method, r.URL.Path)
}

// caller reads the token that Teleport adds to each request. A real application
// checks its signature; this one only listens on loopback and says hello.
func caller(assertion string) (user string, roles []string) {
	var claims struct {
		Username string   `json:"username"`
		Roles    []string `json:"roles"`
	}
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return "nobody that Teleport knows", nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return "nobody that Teleport knows", nil
	}
	return claims.Username, claims.Roles
}
