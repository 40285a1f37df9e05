package main

import (
	_ "github.com/coreos/go-systemd/v22/daemon"
	_ "github.com/gravitational/teleport/api/client"
	_ "github.com/gravitational/trace"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
	_ "github.com/spf13/cobra"
	_ "github.com/stretchr/testify/require"
	_ "go.uber.org/goleak"
	_ "golang.org/x/crypto/ssh"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
	_ "gopkg.in/yaml.v3"
	_ "github.com/google/go-cmp/cmp"
)

func main() {}
