package cluster

import (
	"context"
	"runtime"
	"time"

	machineidv1 "github.com/gravitational/teleport/api/gen/proto/go/teleport/machineid/v1"
	"github.com/gravitational/trace"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Heartbeat is what a bot instance tells its cluster of itself.
type Heartbeat struct {
	Version    string
	Hostname   string
	JoinMethod string
	Startup    bool
	OneShot    bool
	Uptime     time.Duration
}

// SubmitHeartbeat tells the cluster that this bot instance lives. supported is
// false where the server knows no bot instances (before v16).
func (b *Bot) SubmitHeartbeat(ctx context.Context, creds *Credentials, beat Heartbeat) (supported bool, err error) {
	clt, release, err := b.client(ctx, creds)
	if err != nil {
		return false, trace.Wrap(err)
	}
	defer release()
	callCtx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	_, err = clt.BotInstanceServiceClient().SubmitHeartbeat(callCtx, &machineidv1.SubmitHeartbeatRequest{
		Heartbeat: &machineidv1.BotInstanceStatusHeartbeat{
			RecordedAt:   timestamppb.Now(),
			IsStartup:    beat.Startup,
			Version:      beat.Version,
			Hostname:     beat.Hostname,
			Uptime:       durationpb.New(beat.Uptime),
			JoinMethod:   beat.JoinMethod,
			OneShot:      beat.OneShot,
			Architecture: runtime.GOARCH,
			Os:           runtime.GOOS,
		},
	})
	if err == nil {
		return true, nil
	}
	if isUnimplemented(err) {
		return false, nil
	}
	err = translate("sending a heartbeat", err)
	b.forgetBroken(creds, clt, err)
	return true, err
}
