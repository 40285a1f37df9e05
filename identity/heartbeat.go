package identity

import (
	"context"
	"log/slog"
	"time"

	"rollcall/cluster"
	"rollcall/internal/pulse"
)

// HeartbeatSender tells the cluster that this bot instance lives.
type HeartbeatSender interface {
	SubmitHeartbeat(ctx context.Context, creds *cluster.Credentials, beat cluster.Heartbeat) (supported bool, err error)
}

const (
	heartbeatInterval = 30 * time.Minute
	heartbeatRetry    = time.Minute
)

// Heart sends the bot instance's heartbeats. Servers that know none are left
// alone: that is all that leaves the host beside what was asked for.
type Heart struct {
	sender HeartbeatSender
	keeper *Keeper
	beat   cluster.Heartbeat
	log    *slog.Logger
	start  time.Time
	pulse  pulse.Pulse
}

// NewHeart returns a Heart. beat holds what doesn't change.
func NewHeart(sender HeartbeatSender, keeper *Keeper, beat cluster.Heartbeat, log *slog.Logger) *Heart {
	return &Heart{sender: sender, keeper: keeper, beat: beat, log: log, start: time.Now()}
}

// Alive returns an error if sending a heartbeat hangs.
func (h *Heart) Alive() error { return h.pulse.Alive() }

// Name is the heart's name among the agent's services.
func (h *Heart) Name() string { return "heartbeat" }

// Run sends a heartbeat now and every half an hour, until ctx is cancelled.
func (h *Heart) Run(ctx context.Context) error {
	beat := h.beat
	beat.Startup = true
	for {
		creds, err := h.keeper.Wait(ctx)
		if err != nil {
			return nil //nolint:nilerr // only a cancelled context ends the wait
		}
		beat.Uptime = time.Since(h.start)
		wait := heartbeatInterval
		h.pulse.Work("sending a heartbeat", stuckAfter)
		supported, err := h.sender.SubmitHeartbeat(ctx, creds, beat)
		h.pulse.Rest()
		switch {
		case err != nil:
			h.log.Debug("The heartbeat couldn't be sent.", "err", err)
			wait = heartbeatRetry
		case !supported:
			h.log.Debug("The cluster knows no bot instances; no heartbeats are sent.")
		default:
			beat.Startup = false
		}
		if !sleep(ctx, wait) {
			return nil
		}
	}
}
