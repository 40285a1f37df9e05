package agent

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
	"github.com/gravitational/trace"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

// Labels of our containers, beside resource.LabelOwner.
const (
	// labelApp holds the application's name, and marks the container as an agent.
	labelApp = resource.LabelAgent
	// labelSettings is a hash of what the options say of the container.
	labelSettings = resource.LabelPrefix + "agent-settings"
)

const (
	// stopPatience is what a container gets to end by itself.
	stopPatience = 5 * time.Second
	// callTimeout bounds one call to the Engine.
	callTimeout = 30 * time.Second
	// maxFile bounds what is read from a container: it isn't ours alone.
	maxFile = 1 << 20
)

// engine makes and removes the containers of one owner.
type engine struct {
	docker *client.Client
	owner  string
}

// list returns the containers that bear the owner's label, in any state; of one
// application, or of all if name is empty. Whose they are, a label doesn't prove.
func (e *engine) list(ctx context.Context, name string) ([]container.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	label := labelApp
	if name != "" {
		label += "=" + name
	}
	all, err := e.docker.ContainerList(ctx, container.ListOptions{
		All: true, Filters: filters.NewArgs(filters.Arg("label", resource.LabelOwner+"="+e.owner), filters.Arg("label", label)),
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, failure.Wrap(failure.Unreachable, err, "listing the agents' containers: the Docker Engine %s doesn't answer", e.docker.DaemonHost())
	}
	if err != nil {
		return nil, e.explain("listing the agents' containers", err)
	}
	// An Engine without containers answers []. `null` comes from something
	// else, and would have an agent started for each application.
	if all == nil || slices.ContainsFunc(all, func(c container.Summary) bool { return c.ID == "" }) {
		return nil, failure.New(failure.Transient, "the Docker Engine %s answered no list of the agents' containers", e.docker.DaemonHost())
	}
	return all, nil
}

// create makes a container that isn't started, with the files in it that are
// packed for its ID.
func (e *engine) create(ctx context.Context, name string, config *container.Config, host *container.HostConfig, files func(id string) ([]byte, error)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	made, err := e.docker.ContainerCreate(ctx, config, host, nil, nil, name)
	if errdefs.IsNotFound(err) {
		return "", failure.Wrap(failure.Configuration, err, "the image %s or the network %s isn't there: pull the image on the Docker host, or make the network", config.Image, host.NetworkMode)
	}
	if err != nil {
		return "", e.explain("making the container "+name, err)
	}
	content, err := files(made.ID)
	if err != nil {
		return made.ID, trace.Wrap(err)
	}
	return made.ID, e.put(ctx, made.ID, content)
}

// put unpacks an archive at the container's root.
func (e *engine) put(ctx context.Context, id string, files []byte) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := e.docker.CopyToContainer(ctx, id, "/", bytes.NewReader(files), container.CopyToContainerOptions{})
	return e.explain("writing files into the container "+short(id), err)
}

// read reads a file out of a container. fs.ErrNotExist: it isn't there.
func (e *engine) read(ctx context.Context, id, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	op := "reading " + path + " in the container " + short(id)
	stream, _, err := e.docker.CopyFromContainer(ctx, id, path)
	if errdefs.IsNotFound(err) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, e.explain(op, err)
	}
	defer stream.Close()
	archive := tar.NewReader(io.LimitReader(stream, maxFile+4096))
	header, err := archive.Next()
	if err != nil {
		return nil, e.explain(op, err)
	}
	if header.Typeflag != tar.TypeReg || header.Size > maxFile {
		return nil, fs.ErrNotExist // whoever has put it there, it isn't our file
	}
	content, err := io.ReadAll(archive)
	return content, e.explain(op, err)
}

func (e *engine) start(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return e.explain("starting the container "+short(id), e.docker.ContainerStart(ctx, id, container.StartOptions{}))
}

// stop ends the container and waits for its end. One that is gone is no error.
func (e *engine) stop(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	seconds := int(stopPatience.Seconds())
	err := e.docker.ContainerStop(ctx, id, container.StopOptions{Timeout: &seconds})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return e.explain("stopping the container "+short(id), err)
}

// remove removes a container and its volumes. One that is gone is no error.
func (e *engine) remove(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := e.docker.ContainerRemove(ctx, id, container.RemoveOptions{RemoveVolumes: true, Force: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return e.explain("removing the container "+short(id), err)
}

// lastWords are the last lines that the container has logged.
func (e *engine) lastWords(ctx context.Context, id string) string {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	stream, err := e.docker.ContainerLogs(ctx, id, container.LogsOptions{ShowStderr: true, Tail: "5"})
	if err != nil {
		return ""
	}
	defer stream.Close()
	content, err := io.ReadAll(io.LimitReader(stream, maxFile))
	if err != nil {
		return ""
	}
	return logText(content)
}

// logText takes the frames' headers, which are of no use, out of a log.
func logText(content []byte) string {
	var text strings.Builder
	for len(content) >= 8 {
		size := int(content[4])<<24 | int(content[5])<<16 | int(content[6])<<8 | int(content[7])
		content = content[8:]
		size = min(size, len(content))
		text.WriteString(strings.TrimRight(string(content[:size]), "\r\n") + "; ")
		content = content[size:]
	}
	return strings.ToValidUTF8(strings.TrimSuffix(text.String(), "; "), "?")
}

// explain turns what the Engine says into a sentence and a kind. One container
// that hangs isn't an Engine that can't be reached, which would end the work on
// all the others: only the list tells that.
func (e *engine) explain(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, fs.ErrPermission):
		return failure.Wrap(failure.Configuration, err, "%s: no permission to use the Docker Engine's socket %s", op, e.docker.DaemonHost())
	case errors.Is(err, context.DeadlineExceeded):
		return failure.Wrap(failure.Transient, err, "%s: the Docker Engine %s didn't do it in time", op, e.docker.DaemonHost())
	case client.IsErrConnectionFailed(err):
		return failure.Wrap(failure.Unreachable, err, "%s: the Docker Engine %s doesn't answer", op, e.docker.DaemonHost())
	case errdefs.IsNotFound(err):
		return failure.Wrap(failure.NotFound, err, "%s: it's gone", op)
	case errdefs.IsPermissionDenied(err), errdefs.IsUnauthorized(err):
		return failure.Wrap(failure.Refused, err, "%s: the Docker Engine, or a proxy in front of it, refuses that; agents need an Engine that lets them make and remove containers", op)
	case errdefs.IsInvalidArgument(err):
		return failure.Wrap(failure.Configuration, err, "%s: the Docker Engine doesn't take it (%v)", op, err)
	default:
		return failure.Wrap(failure.Transient, err, "%s: %v", op, err)
	}
}

// short is how Docker shows an ID.
func short(id string) string { return id[:min(12, len(id))] }
