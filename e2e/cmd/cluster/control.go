package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/gravitational/teleport/api/types"

	"github.com/gravitational/teleport/lib/auth"
)

// rotation is the body of POST /rotate.
type rotation struct {
	// Type is the authority: host, user, db, openssh, jwt, saml_idp, …
	Type types.CertAuthType `json:"type"`
	// Phase is the phase to go to: init, update_clients, update_servers,
	// standby or rollback. The server refuses steps out of order.
	Phase string `json:"phase"`
}

// listenControl opens the control socket and serves it:
//
//	GET  /info              the ready line as of now
//	POST /rotate            one step of a manual CA rotation (type rotation)
//	POST /admin             writes the administrator's identity afresh
//	GET  /generation?bot=N  the bot's generation label, past all caches
//
// The caller closes the server.
func (c *cluster) listenControl() (*http.Server, error) {
	if err := os.Remove(c.layout.control()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", c.layout.control())
	if err != nil {
		return nil, err
	}
	// The directory is 0700; the mode is a second lock.
	if err := os.Chmod(c.layout.control(), 0o600); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /info", c.handleInfo)
	mux.HandleFunc("POST /rotate", c.handleRotate)
	mux.HandleFunc("POST /admin", c.handleAdmin)
	mux.HandleFunc("GET /generation", c.handleGeneration)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return server, nil
}

func (c *cluster) handleInfo(w http.ResponseWriter, r *http.Request) {
	info, err := c.ready(r.Context())
	reply(w, info, err)
}

func (c *cluster) handleRotate(w http.ResponseWriter, r *http.Request) {
	var body rotation
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	err := c.auth().RotateCertAuthority(r.Context(), auth.RotateRequest{
		Type: body.Type, TargetPhase: body.Phase, Mode: types.RotationModeManual,
	})
	if err == nil && body.Type == types.HostCA {
		err = c.awaitPhase(r.Context(), body.Phase)
	}
	reply(w, struct{}{}, err)
}

// awaitPhase waits until every service of this process has followed the host
// CA's rotation: a service that misses a phase can't catch up any more.
func (c *cluster) awaitPhase(ctx context.Context, phase string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if c.reached(phase) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the cluster's own services haven't reached phase %q: %w", phase, ctx.Err())
		case <-tick.C:
		}
	}
}

// reached says whether every service's own certificates are of this phase.
func (c *cluster) reached(phase string) bool {
	process := c.current.Load()
	// RoleInstance is the process itself, by which its services get theirs.
	for _, role := range []types.SystemRole{types.RoleAdmin, types.RoleProxy, types.RoleApp, types.RoleInstance} {
		rotation, err := process.GetRotation(role)
		if err != nil || rotation.Phase != phase {
			return false
		}
	}
	return true
}

func (c *cluster) handleAdmin(w http.ResponseWriter, r *http.Request) {
	if err := c.writeAdminIdentity(r.Context()); err != nil {
		reply(w, nil, err)
		return
	}
	c.handleInfo(w, r)
}

func (c *cluster) handleGeneration(w http.ResponseWriter, r *http.Request) {
	user, err := c.auth().Services.GetUser(auth.BotResourceName(r.URL.Query().Get("bot")), false)
	if err != nil {
		reply(w, nil, err)
		return
	}
	reply(w, map[string]string{"generation": user.BotGenerationLabel()}, nil)
}

func reply(w http.ResponseWriter, body any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}
