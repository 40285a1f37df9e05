package docker

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	types "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"

	"rollcall/discovery/resource"
	"rollcall/failure"
)

// States of a container that mean something here.
const (
	stateRunning    = "running"
	statePaused     = "paused"
	stateRestarting = "restarting"

	healthStarting  = "starting"
	healthUnhealthy = "unhealthy"
)

// box is a container as far as it matters here.
type box struct {
	id    string
	name  string
	image string // as it was started with
	// imageID is what that was at that time: sha256:…
	imageID string
	state   string
	health  string // "", starting, healthy, unhealthy
	labels  map[string]string
	// mode is the network mode: bridge, host, none, container:ID or a
	// network's name.
	mode      string
	endpoints map[string]attachment
	// exposed are the TCP ports that the image or the container names.
	exposed []int
	// published are the host's addresses of the TCP ports.
	published map[int][]binding
	// joined is the container whose network this one shares; nil if it doesn't,
	// or if that one doesn't run.
	joined *box
}

// attachment is a container's place in a network.
type attachment struct {
	// endpointID is new each time that the container starts.
	endpointID string
	ip         string
	ip6        string
}

// binding is one place at which a port is published.
type binding struct {
	ip   string
	port int
}

// shortID is as much of an ID as people see.
func (b *box) shortID() string { return b.id[:min(12, len(b.id))] }

// String names the container for people: "web (0123456789ab)".
func (b *box) String() string { return fmt.Sprintf("%s (%s)", b.name, b.shortID()) }

// isAgent says if a discovery service has started the container to serve an
// application.
func (b *box) isAgent() bool {
	_, labelled := b.labels[resource.LabelAgent]
	return labelled
}

// boxOf reads what the Engine says of a container. An answer that lacks what
// every container has is an error.
func boxOf(c types.InspectResponse) (*box, error) {
	if c.ContainerJSONBase == nil || c.ID == "" || c.State == nil || c.Config == nil || c.HostConfig == nil || c.NetworkSettings == nil {
		return nil, failure.New(failure.Transient, "the Docker Engine told only a part of a container")
	}
	b := &box{
		id:        c.ID,
		name:      strings.TrimPrefix(c.Name, "/"),
		image:     c.Config.Image,
		imageID:   c.Image,
		state:     c.State.Status,
		labels:    c.Config.Labels,
		mode:      string(c.HostConfig.NetworkMode),
		endpoints: attachments(c.NetworkSettings.Networks),
		published: map[int][]binding{},
	}
	if c.State.Health != nil && c.State.Health.Status != types.NoHealthcheck {
		b.health = c.State.Health.Status
	}
	for port := range c.Config.ExposedPorts {
		if port.Proto() == "tcp" && port.Int() > 0 {
			b.exposed = append(b.exposed, port.Int())
		}
	}
	slices.Sort(b.exposed)
	for port, bindings := range c.NetworkSettings.Ports {
		for _, one := range bindings {
			number, err := strconv.Atoi(one.HostPort)
			if port.Proto() != "tcp" || err != nil || number == 0 {
				continue
			}
			b.published[port.Int()] = append(b.published[port.Int()], binding{one.HostIP, number})
		}
	}
	for _, bindings := range b.published {
		slices.SortFunc(bindings, compareBindings)
	}
	return b, nil
}

// compareBindings puts first what can be reached from most places: all
// addresses, then some address, then the loopback; IPv6 comes last.
func compareBindings(a, b binding) int {
	return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.ip, b.ip), cmp.Compare(a.port, b.port))
}

func (b binding) rank() int {
	address, err := netip.ParseAddr(b.ip)
	switch {
	case b.ip == "" || b.ip == "0.0.0.0":
		return 0
	case err != nil || !address.Is4():
		return 3
	case address.IsLoopback():
		return 2
	default:
		return 1
	}
}

func attachments(networks map[string]*network.EndpointSettings) map[string]attachment {
	all := map[string]attachment{}
	for name, endpoint := range networks {
		if endpoint != nil {
			all[name] = attachment{endpoint.EndpointID, endpoint.IPAddress, endpoint.GlobalIPv6Address}
		}
	}
	return all
}

// fingerprint changes whenever something changes that a running container can
// change: its state, its health, its networks. The list of containers has all
// of it, so that who has inspected a container needn't do so again until its
// fingerprint changes. (The list has no time of start; the networks' endpoint
// IDs are new at each one.)
func (b *box) fingerprint() string {
	return fingerprint(b.name, b.state, b.health, b.endpoints, b.publishedPorts())
}

// fingerprintOf is the fingerprint by what the list says of a container.
func fingerprintOf(c types.Summary) string {
	var endpoints map[string]attachment
	if c.NetworkSettings != nil {
		endpoints = attachments(c.NetworkSettings.Networks)
	}
	var ports []string
	for _, port := range c.Ports {
		if port.Type == "tcp" && port.PublicPort != 0 {
			ports = append(ports, publishedPort(int(port.PrivatePort), binding{port.IP, int(port.PublicPort)}))
		}
	}
	return fingerprint(ownName(c.Names), c.State, healthOf(c.Status), endpoints, ports)
}

func fingerprint(name, state, health string, endpoints map[string]attachment, ports []string) string {
	if state != stateRunning {
		health = "" // the list doesn't tell it then
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s|%s|%s", name, state, health)
	for _, network := range slices.Sorted(maps.Keys(endpoints)) {
		fmt.Fprintf(&b, "|%s=%s,%s", network, endpoints[network].endpointID, endpoints[network].ip)
	}
	slices.Sort(ports)
	for _, port := range ports {
		b.WriteString("|" + port)
	}
	return b.String()
}

func (b *box) publishedPorts() []string {
	var all []string
	for port, bindings := range b.published {
		for _, one := range bindings {
			all = append(all, publishedPort(port, one))
		}
	}
	return all
}

func publishedPort(port int, b binding) string { return fmt.Sprintf("%d>%s:%d", port, b.ip, b.port) }

// ownName is the container's name among those that the list gives; others are
// links of other containers to it, as /other/alias.
func ownName(names []string) string {
	for _, name := range names {
		if own := strings.TrimPrefix(name, "/"); !strings.Contains(own, "/") {
			return own
		}
	}
	return ""
}

// healthOf reads the health out of the list's words: "Up 2 hours (healthy)".
func healthOf(status string) string {
	_, note, found := strings.Cut(status, " (")
	if !found {
		return ""
	}
	note = strings.TrimPrefix(strings.TrimSuffix(note, ")"), "health: ")
	switch note {
	case healthStarting, types.Healthy, healthUnhealthy:
		return note
	}
	return ""
}

// joins returns the ID of the container whose network this one shares.
func joins(mode string) (string, bool) { return strings.CutPrefix(mode, "container:") }
