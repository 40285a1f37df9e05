package cluster

import (
	"strconv"
	"strings"

	"github.com/gravitational/teleport/api"

	"rollcall/failure"
)

// The servers that we know how to talk to. Auth servers refuse clients more
// than one major below their own, and the api module we speak with is of 18.
const (
	oldestServer = 14
	newestServer = 19
)

// versionMajor returns the major number of "14.2.3" or "v18.0.0-dev"; 0 if it
// can't be read.
func versionMajor(version string) int {
	head, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	major, err := strconv.Atoi(head)
	if err != nil {
		return 0
	}
	return major
}

// checkServerVersion refuses servers that would refuse us, before anything is
// sent that could be spent. minClient is the oldest client that the server
// takes, if it says so. Versions that can't be read pass.
func checkServerVersion(version, minClient string) error {
	major := versionMajor(version)
	switch {
	case major > newestServer, versionMajor(minClient) > versionMajor(api.Version):
		return failure.New(failure.Refused,
			"the cluster runs Teleport %s, which is too new: this rollcall speaks with %d to %d. Install a newer rollcall", version, oldestServer, newestServer)
	case major > 0 && major < oldestServer:
		return failure.New(failure.Refused,
			"the cluster runs Teleport %s, which is too old: this rollcall speaks with %d to %d. Upgrade the cluster", version, oldestServer, newestServer)
	default:
		return nil
	}
}
