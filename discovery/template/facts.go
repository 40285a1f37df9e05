package template

import (
	"crypto/sha256"
	"encoding/hex"
	"reflect"
)

// Facts are what a template may say of a workload: {{ .Name }}. Texts are empty
// and ports 0 where a workload has none.
type Facts struct {
	// Name is what the workload is called: what its label says, where it may,
	// else Compose's PROJECT-SERVICE (with -NUMBER from the second on), else
	// its container's name.
	Name string
	// Host is the short name of the agent's host.
	Host string
	// IP is the address that was chosen.
	IP string
	// Port is the port at that address.
	Port int
	// ContainerPort is the port inside the container; the same as Port unless
	// the address is a published one.
	ContainerPort int
	// Scheme is http, https or tcp.
	Scheme string
	// Path is what the workload's label says; "" or begins with "/".
	Path string
	// PublicAddr is what the workload's label says.
	PublicAddr string
	// ID is the first 12 characters of the container's ID.
	ID string
	// Image is the image as the container was started with it.
	Image string
	// Container is the container's name.
	Container string
	// Workload is the stable identity: "web/api", "nginx".
	Workload string
	// Project and Service are Compose's.
	Project, Service string
	// Number is the one of a scaled Compose service: "1".
	Number string
	// Network is the name of the network that was chosen.
	Network string
	// Labels are all of the container's.
	Labels map[string]string

	// networkFixed says that the configuration, and not whoever started the
	// container, chose Network.
	networkFixed bool
}

// FixNetwork says that the configuration chose Network, so that a host may
// depend on it.
func (f *Facts) FixNetwork() { f.networkFixed = true }

// fields are the names that a template may use.
func fields() []string {
	t := reflect.TypeFor[Facts]()
	var names []string
	for i := range t.NumField() {
		if t.Field(i).IsExported() {
			names = append(names, t.Field(i).Name)
		}
	}
	return names
}

// disguised returns the facts with everything changed that whoever starts a
// container chooses. What a template makes of the two differs exactly where it
// depends on that. Nobody can choose a text that is its own disguise.
func (f Facts) disguised() Facts {
	for _, text := range []*string{
		&f.Name, &f.PublicAddr, &f.Image, &f.Container, &f.Workload, &f.Project, &f.Service, &f.Number,
	} {
		*text = disguise(*text)
	}
	if !f.networkFixed {
		f.Network = disguise(f.Network)
	}
	f.Path = "/" + disguise(f.Path)
	labels := map[string]string{}
	for key, value := range f.Labels {
		labels[key] = disguise(value)
	}
	f.Labels = labels
	return f
}

func disguise(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "x" + hex.EncodeToString(sum[:8])
}
