package docker

import (
	"fmt"
	"regexp"
	"strings"

	"rollcall/discovery/resource"
)

// The labels that Compose and Swarm write.
const (
	composeProject = "com.docker.compose.project"
	composeService = "com.docker.compose.service"
	composeNumber  = "com.docker.compose.container-number"
	composeOneOff  = "com.docker.compose.oneoff"
)

// composed says which Compose service a container belongs to. A container of
// `docker compose run` belongs to none: it's no replica. The labels alone prove
// nothing, since anybody may write them; but a name is unique in an Engine, so
// they count only for a container that has the name that Compose gives.
func (b *box) composed() (project, service, number string, ok bool) {
	project, service, number = b.labels[composeProject], b.labels[composeService], b.labels[composeNumber]
	oneOff := strings.EqualFold(b.labels[composeOneOff], "true")
	valid := !oneOff && validWord(project) && validWord(service) && validWord(number)
	return project, service, number, valid && (b.name == project+"-"+service+"-"+number || b.name == project+"_"+service+"_"+number)
}

// identity returns what a container is to us across restarts and new
// containers, and why: what its identity label says, else Compose's project and
// service (with the number from the second on) where by is IdentityCompose,
// else its name.
func (b *box) identity(label string, by Identity) (workload, why string, err error) {
	if value, given := b.labels[label]; label != "" && given {
		if !validIdentity(value) {
			return "", "", fmt.Errorf("the label %s is %q, and must be at most %d letters, digits, and . _ / - to be an identity", label, resource.Short(value), maxIdentity)
		}
		return value, "by the label " + label, nil
	}
	if project, service, number, ok := b.composed(); ok && by == IdentityCompose {
		workload = project + "/" + service
		if number != "" && number != "1" {
			workload += "/" + number
		}
		return workload, "by its Compose project and service, which its name fits", nil
	}
	if _, says := b.labels[composeService]; says && by == IdentityCompose {
		return b.name, "by its name, which isn't one that Compose gives for its labels", nil
	}
	return b.name, "by its name", nil
}

// callName is what the container is called where no label says it.
func (b *box) callName() string {
	if project, service, number, ok := b.composed(); ok {
		name := project + "-" + service
		if number != "" && number != "1" {
			name += "-" + number
		}
		return name
	}
	return b.name
}

var plainIdentity = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_./-]*$`)

func validIdentity(text string) bool {
	return len(text) <= maxIdentity && plainIdentity.MatchString(text)
}
