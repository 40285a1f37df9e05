package harness

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// dockerLabel marks every image and container of the tests; its value names the
// process that they belong to (PID-START).
const dockerLabel = "rollcall-e2e"

// Engine is this machine's own Docker Engine, whatever DOCKER_HOST and docker's
// context say: the agents under test look at this one, too.
const Engine = "unix:///var/run/docker.sock"

// dockerTimeout bounds one docker command.
const dockerTimeout = 2 * time.Minute

// Docker is this machine's Docker Engine, used through its command line tool. Everything it makes is gone when the test ends;
// what a killed test has left is removed by the next one.
type Docker struct {
	suite *Suite
	t     T
}

// HasDocker says whether a Docker Engine answers, for programs that can do
// without.
func HasDocker(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, "docker", "--host", Engine, "info").Run() == nil
}

// Docker returns the Docker Engine. Without one the test fails.
func (s *Suite) Docker(t T) *Docker {
	t.Helper()
	d := &Docker{suite: s, t: t}
	d.Run("info", "--format", "{{.ServerVersion}}")
	d.removeStale()
	return d
}

// Run runs docker with the given arguments and returns what it printed,
// trimmed. It must succeed.
func (d *Docker) Run(args ...string) string {
	d.t.Helper()
	out, err := d.Try(d.t.Context(), args...)
	if err != nil {
		d.t.Fatalf("docker %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// Try is Run for what may fail.
func (d *Docker) Try(ctx context.Context, args ...string) (string, error) {
	return d.feed(ctx, nil, args...)
}

// feed is Try with a standard input.
func (d *Docker) feed(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, dockerTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", append([]string{"--host", Engine}, args...)...)
	cmd.Stdin = stdin
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(problems.String()))
	}
	return strings.TrimSpace(string(out)), err
}

// cleanup runs docker after the test, whatever has happened to it.
func (d *Docker) cleanup(args ...string) {
	d.t.Cleanup(func() { _, _ = d.Try(context.Background(), args...) })
}

// Image is what an image of the tests is made of: nothing can be pulled.
type Image struct {
	// Name is the repository; it's made unique. Empty: "test".
	Name string
	// Tag is the image's tag; empty: "latest".
	Tag string
	// Files are put into the image: path inside to path here. Programs' shared
	// libraries aren't found by themselves; see Libraries.
	Files map[string]string
	// Changes are Dockerfile instructions: `ENTRYPOINT ["/web"]`, `EXPOSE 15672`.
	Changes []string
}

// Image makes an image and returns its name with the tag.
func (d *Docker) Image(image Image) string {
	d.t.Helper()
	if image.Name == "" {
		image.Name = "test"
	}
	if image.Tag == "" {
		image.Tag = "latest"
	}
	name := unique(d.t, "rollcall-e2e-"+image.Name) + ":" + image.Tag
	reader, writer := io.Pipe()
	go func() { _ = writer.CloseWithError(writeImage(writer, image.Files)) }()
	args := []string{"import", "--change", fmt.Sprintf("LABEL %s=%s", dockerLabel, d.suite.stamp())}
	for _, change := range image.Changes {
		args = append(args, "--change", change)
	}
	_, err := d.feed(d.t.Context(), reader, append(args, "-", name)...)
	_ = reader.CloseWithError(err) // ends the writer, if docker gave up early
	if err != nil {
		d.t.Fatalf("docker import %s: %v", name, err)
	}
	d.cleanup("image", "rm", "--force", name)
	return name
}

// WebImage makes an image of cmd/web, which listens on port 15672 as RabbitMQ's
// management page does.
func (d *Docker) WebImage(name string) string {
	d.t.Helper()
	return d.Image(Image{Name: name, Files: map[string]string{"/web": d.suite.Bin.Web},
		Changes: []string{`ENTRYPOINT ["/web"]`, "EXPOSE 5672 15672"}})
}

// TeleportImage makes an image whose containers are Teleport agents, as the
// official one's: `teleport start -c /etc/teleport/teleport.yaml`.
func (d *Docker) TeleportImage() string {
	d.t.Helper()
	files := Libraries(d.t, d.suite.Bin.Cluster)
	files["/usr/local/bin/teleport"] = d.suite.Bin.Cluster
	return d.Image(Image{Name: "teleport", Tag: "14.2.3", Files: files, Changes: []string{
		`ENTRYPOINT ["/usr/local/bin/teleport", "start", "-c", "/etc/teleport/teleport.yaml"]`,
	}})
}

// Libraries are the shared libraries that a program of this host needs, each at
// its own path.
func Libraries(t T, program string) map[string]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ldd", program).Output()
	if err != nil {
		t.Fatalf("ldd %s: %v", program, err)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		for field := range strings.FieldsSeq(line) {
			if strings.HasPrefix(field, "/") {
				files[field] = field
			}
		}
	}
	// The resolver reads them: without the second "localhost" isn't known.
	for _, path := range []string{"/etc/nsswitch.conf", "/etc/hosts", "/etc/passwd", "/etc/group"} {
		if _, err := os.Stat(path); err == nil {
			files[path] = path
		}
	}
	return files
}

// writeImage writes a root file system as a tar.
func writeImage(out io.Writer, files map[string]string) error {
	archive := tar.NewWriter(out)
	for _, dir := range []string{"tmp/", "etc/", "var/", "var/lib/"} {
		mode := int64(0o755)
		if dir == "tmp/" {
			mode = 0o1777
		}
		if err := archive.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: mode}); err != nil {
			return err
		}
	}
	for inside, path := range files {
		if err := addFile(archive, strings.TrimPrefix(inside, "/"), path); err != nil {
			return err
		}
	}
	return archive.Close()
}

func addFile(archive *tar.Writer, name, path string) error {
	file, err := os.Open(path) // follows links
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: int64(info.Mode().Perm()), Size: info.Size(), ModTime: info.ModTime()}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(archive, file)
	return err
}

// Container says how a container is started.
type Container struct {
	// Image is what Docker.Image returned.
	Image string
	// Name is the container's; empty: a unique one.
	Name string
	// Network is a Docker network; empty: the default bridge.
	Network string
	// Labels are the container's.
	Labels map[string]string
	// Options are further options of `docker run`: "--publish", "8080:15672".
	Options []string
	// Args are the program's.
	Args []string
}

// RunningContainer is a container that was started.
type RunningContainer struct {
	ID, Name string

	docker *Docker
}

// Start starts a container. It's removed when the test ends.
func (d *Docker) Start(c Container) *RunningContainer {
	d.t.Helper()
	if c.Name == "" {
		c.Name = unique(d.t, "c")
	}
	args := []string{"run", "--detach", "--name", c.Name, "--label", dockerLabel + "=" + d.suite.stamp()}
	if c.Network != "" {
		args = append(args, "--network", c.Network)
	}
	for key, value := range c.Labels {
		args = append(args, "--label", key+"="+value)
	}
	args = append(append(append(args, c.Options...), c.Image), c.Args...)
	d.cleanup("rm", "--force", "--volumes", c.Name)
	return &RunningContainer{ID: d.Run(args...), Name: c.Name, docker: d}
}

// Network makes a network and returns its name. It's removed when the test ends;
// make it before the containers in it.
func (d *Docker) Network(prefix string) string {
	d.t.Helper()
	name := unique(d.t, prefix)
	d.cleanup("network", "rm", name)
	d.Run("network", "create", "--label", dockerLabel+"="+d.suite.stamp(), name)
	return name
}

// IP is the container's address in its first network, empty while it's stopped.
func (c *RunningContainer) IP() string {
	c.docker.t.Helper()
	return c.Inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}")
}

// Inspect evaluates a Go template on the container.
func (c *RunningContainer) Inspect(template string) string {
	c.docker.t.Helper()
	first, _, _ := strings.Cut(c.docker.Run("inspect", "--format", template, c.ID), " ")
	return first
}

// Stop stops the container, without patience.
func (c *RunningContainer) Stop() { c.docker.t.Helper(); c.docker.Run("stop", "--time", "1", c.ID) }

// StartAgain starts a stopped container.
func (c *RunningContainer) StartAgain() { c.docker.t.Helper(); c.docker.Run("start", c.ID) }

// Remove removes the container, running or not.
func (c *RunningContainer) Remove() {
	c.docker.t.Helper()
	c.docker.Run("rm", "--force", "--volumes", c.ID)
}

// RemoveLabelled removes every container with the label, now and once more when
// the test ends: for those that the program under test has made.
func (d *Docker) RemoveLabelled(label string) {
	d.t.Helper()
	remove := func() {
		ids, err := d.Try(context.Background(), "ps", "--all", "--quiet", "--filter", "label="+label)
		if err == nil && ids != "" {
			_, _ = d.Try(context.Background(), append([]string{"rm", "--force", "--volumes"}, strings.Fields(ids)...)...)
		}
	}
	remove()
	d.t.Cleanup(remove)
}

// stamp names this process among all that ever ran on this host.
func (s *Suite) stamp() string { return stampOf(os.Getpid()) }

// stampOf returns PID-START of a process, or "" if there's none.
func stampOf(pid int) string {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	// The name in parentheses may hold blanks; the start time is field 22.
	fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
	const start = 22 - 3
	if len(fields) <= start {
		return ""
	}
	return fmt.Sprintf("%d-%s", pid, fields[start])
}

// removeStale removes what processes that are gone have left.
func (d *Docker) removeStale() {
	for what, list := range map[string][]string{
		"container": {"ps", "--all", "--format", "json"},
		"network":   {"network", "ls", "--format", "json"},
		"image":     {"images", "--all", "--format", "json"},
	} {
		out, err := d.Try(d.t.Context(), append(list, "--filter", "label="+dockerLabel)...)
		if err != nil {
			d.t.Logf("looking for what older tests have left: %v", err)
			continue
		}
		for line := range strings.Lines(out) {
			var entry struct{ ID string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.ID != "" && !d.alive(what, entry.ID) {
				_, _ = d.Try(d.t.Context(), what, "rm", "--force", entry.ID)
			}
		}
	}
}

// alive says whether the process that made it still runs. Who can't be asked
// counts as alive.
func (d *Docker) alive(what, id string) bool {
	labels := ".Labels"
	if what != "network" {
		labels = ".Config.Labels"
	}
	stamp, err := d.Try(d.t.Context(), what, "inspect", "--format", `{{index `+labels+` "`+dockerLabel+`"}}`, id)
	if err != nil || stamp == "" {
		return true
	}
	text, _, _ := strings.Cut(stamp, "-")
	pid, err := strconv.Atoi(text)
	if err != nil {
		return true
	}
	if err := syscall.Kill(pid, 0); err != nil {
		return false
	}
	return stampOf(pid) == stamp
}
