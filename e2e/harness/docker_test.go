package harness_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/e2e/harness"
)

// TestDocker starts a container of an image made here, and reaches it.
func TestDocker(t *testing.T) {
	docker := suite.Docker(t)
	image := docker.WebImage("rabbitmq")
	network := docker.Network("net")

	c := docker.Start(harness.Container{Image: image, Network: network, Labels: map[string]string{"a": "b"}, Args: []string{"-text", "here I am"}})

	harness.Eventually(t, patience, "the container's answer", func() error {
		response, err := http.Get("http://" + c.IP() + ":15672/")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(string(body), "here I am\n") {
			return fmt.Errorf("%q", body)
		}
		return nil
	})
	require.Equal(t, "b", c.Inspect(`{{index .Config.Labels "a"}}`))
	c.Stop()
	require.Empty(t, c.IP())
}

// TestDockerLeavesNothing looks for what a test has made after it.
func TestDockerLeavesNothing(t *testing.T) {
	var image, network, container string
	t.Run("test", func(t *testing.T) {
		docker := suite.Docker(t)
		image = docker.WebImage("gone")
		network = docker.Network("gone")
		container = docker.Start(harness.Container{Image: image, Network: network}).ID
	})
	docker := suite.Docker(t)
	for _, args := range [][]string{{"image", "inspect", image}, {"network", "inspect", network}, {"inspect", container}} {
		_, err := docker.Try(t.Context(), args...)
		require.Error(t, err, "%v", args)
		require.Regexp(t, "(?i)no such|not found", err.Error(), "%v", args)
	}
}
