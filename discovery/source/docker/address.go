package docker

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"rollcall/failure"
)

// place is where a container is reached.
type place struct {
	ip   string
	port int
	// inside is the port inside the container.
	inside int
	// network is the network's name; "host" for the host's own.
	network string
	// from says who can reach it.
	from string
}

// modeHost is the network mode of a container that has the host's network.
const modeHost = "host"

// owner returns the container whose network a container has: mostly itself.
func (b *box) owner() (*box, error) {
	at := b
	// Docker lets a container join one that has joined another.
	for range 4 {
		target, joined := joins(at.mode)
		if !joined {
			return at, nil
		}
		if at.joined == nil {
			return nil, failure.New(failure.NotFound, "it shares the network of the container %.12s, which doesn't run", target)
		}
		at = at.joined
	}
	return nil, failure.New(failure.Configuration, "it shares the network of a container that shares another's, and so on")
}

// chooseNetwork returns the network whose address is taken, and why. warning
// says that there was nothing to choose by.
func chooseNetwork(owner *box, label, configured string) (name, why string, warning bool, err error) {
	var names []string
	for network, at := range owner.endpoints {
		if address, err := netip.ParseAddr(at.ip); err == nil && address.Is4() {
			names = append(names, network)
		}
	}
	slices.Sort(names)
	for _, wish := range []struct{ network, by string }{
		{label, "by the label " + labelPrefix + labelNetwork}, {configured, "by the configuration"},
	} {
		switch {
		case wish.network == "":
			continue
		case slices.Contains(names, wish.network):
			return wish.network, wish.by, false, nil
		}
		return "", "", false, failure.New(failure.NotFound, "it has no IPv4 address in the network %s, which is chosen %s; it has one in: %s",
			wish.network, wish.by, cmp.Or(strings.Join(names, ", "), "none"))
	}
	switch len(names) {
	case 0:
		return "", "", false, noAddress(owner)
	case 1:
		return names[0], "the only one", false, nil
	default:
		return names[0], fmt.Sprintf("the first by name of %s; choose one with `network`", strings.Join(names, ", ")), true, nil
	}
}

func noAddress(owner *box) error {
	for _, network := range slices.Sorted(maps.Keys(owner.endpoints)) {
		if owner.endpoints[network].ip6 != "" {
			return failure.New(failure.Configuration, "it has an IPv6 address only, in the network %s, and IPv4 is needed", network)
		}
	}
	return failure.New(failure.Configuration, "it has no address: its network mode is %q", owner.mode)
}

// choosePort returns the port inside the container, and why.
func choosePort(label, configured int, known []int, noun string) (port int, why string, err error) {
	switch {
	case label != 0:
		return label, "by the label " + labelPrefix + labelPort, nil
	case configured != 0:
		return configured, "by the configuration", nil
	case len(known) == 1:
		return known[0], "the only TCP port that it " + noun, nil
	case len(known) == 0:
		return 0, "", failure.New(failure.Configuration, "it %s no TCP port; choose one with `port` or the label %s%s", noun, labelPrefix, labelPort)
	default:
		return 0, "", failure.New(failure.Configuration, "it %s the TCP ports %s; choose one with `port` or the label %s%s",
			noun, strings.Trim(fmt.Sprint(known), "[]"), labelPrefix, labelPort)
	}
}

// portsOf returns the ports to choose from.
func (o *Options) portsOf(b, owner *box) (ports []int, noun string) {
	if o.Address == AddressPublished && owner.mode != modeHost {
		return slices.Sorted(maps.Keys(owner.published)), "publishes"
	}
	return b.exposed, "exposes"
}

// placeOf returns the address for a port inside a container.
func (o *Options) placeOf(owner *box, network string, port int, hostAddress string) (place, error) {
	at := place{port: port, inside: port, network: network}
	switch {
	case owner.mode == modeHost:
		return o.onHost(at, hostAddress)
	case o.Address == AddressPublished:
		return o.publishedAt(owner, at, hostAddress)
	}
	at.ip = owner.endpoints[network].ip
	at.from = "from this Engine's host, and from containers in the network " + network
	return at, nil
}

func (o *Options) publishedAt(owner *box, at place, hostAddress string) (place, error) {
	bindings := owner.published[at.inside]
	if len(bindings) == 0 {
		return at, failure.New(failure.Configuration, "its port %d isn't published; publish it, or set `address: container`", at.inside)
	}
	first := bindings[0]
	at.port = first.port
	switch first.rank() {
	case 0:
		return o.onHost(at, hostAddress)
	case 3:
		return at, failure.New(failure.Configuration, "its port %d is published on the IPv6 address %s only; publish it on an IPv4 address", at.inside, first.ip)
	}
	at.ip = first.ip
	at.from = "from wherever " + first.ip + " is reached"
	if first.rank() == 2 {
		at.from = "from this Engine's host only"
	}
	return at, nil
}

// onHost gives a place the host's address.
func (o *Options) onHost(at place, hostAddress string) (place, error) {
	if hostAddress == "" {
		return at, failure.New(failure.Configuration, "the Engine is on another host, whose address isn't known; set `advertise_address`")
	}
	at.ip = hostAddress
	at.from = "from wherever " + hostAddress + " is reached"
	if address, err := netip.ParseAddr(hostAddress); err == nil && address.IsLoopback() {
		at.from = "from this host only; set `advertise_address` for others"
	}
	return at, nil
}
