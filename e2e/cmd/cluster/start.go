package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"github.com/gravitational/teleport/lib/cloud"
	"github.com/gravitational/teleport/lib/config"
	"github.com/gravitational/teleport/lib/service"
	"github.com/gravitational/teleport/lib/service/servicecfg"
)

// startCommand is the first argument that makes this program do what
// `teleport start` does: the images of the tests' agents hold it, so that
// Teleport needn't be linked a second time.
const startCommand = "start"

// startTeleport is `teleport start -c FILE`, but for the questions to a cloud's
// metadata service. It ends as Teleport does: at once after SIGTERM.
func startTeleport(args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet(startCommand, flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("c", "/etc/teleport/teleport.yaml", "configuration file")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	cfg := servicecfg.MakeDefaultConfig()
	if err := config.Configure(&config.CommandLineFlags{ConfigFile: *file}, cfg, false); err != nil {
		fmt.Fprintf(stderr, "teleport: %v\n", err)
		return 1
	}
	cfg.InstanceMetadataClient = cloud.NewDisabledIMDSClient()
	if err := service.Run(context.Background(), *cfg, nil); err != nil {
		fmt.Fprintf(stderr, "teleport: %v\n", err)
		return 1
	}
	return 0
}
