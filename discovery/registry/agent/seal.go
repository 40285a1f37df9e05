package agent

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"

	"github.com/gravitational/trace"

	"rollcall/discovery/resource"
)

// KeySize is how long the key of the seals must be, in bytes.
const KeySize = 32

// labelSeal is on our containers: anybody may set the other labels, or copy an
// image that has them; nobody else can make this one.
const labelSeal = resource.LabelPrefix + "agent-seal"

// sealer proves what we've made. Whoever may start containers can give his our
// labels and put our files into them; he hasn't the key.
type sealer struct{ key []byte }

// container seals a container's name and its labels. A name is one container's
// at a time, so that a copy with the same labels isn't sealed.
func (s sealer) container(node string, labels map[string]string) string {
	return s.mac("container", node, labels[labelApp], labels[resource.LabelOwner], labels[labelSettings],
		labels[resource.LabelSource], labels[resource.LabelWorkload])
}

// made says whether we've made a container.
func (s sealer) made(node string, labels map[string]string) bool {
	return node != "" && hmac.Equal([]byte(labels[labelSeal]), []byte(s.container(node, labels)))
}

// sealed is a record as it's kept: with the proof that we've put it into just
// that container.
type sealed struct {
	Seal   string          `json:"seal"`
	Record json.RawMessage `json:"record"`
}

// close seals a record for the container with that ID.
func (s sealer) close(id string, record []byte) ([]byte, error) {
	content, err := json.Marshal(sealed{Seal: s.mac("record", id, string(record)), Record: record})
	return content, trace.Wrap(err)
}

// open returns the record, if it's ours and for that container.
func (s sealer) open(id string, content []byte) ([]byte, error) {
	var kept sealed
	if err := json.Unmarshal(content, &kept); err != nil {
		return nil, trace.BadParameter("it can't be read")
	}
	if !hmac.Equal([]byte(kept.Seal), []byte(s.mac("record", id, string(kept.Record)))) {
		return nil, trace.AccessDenied("it isn't sealed by us for this container")
	}
	return kept.Record, nil
}

// mac is the same only for the same list of texts.
func (s sealer) mac(texts ...string) string {
	list, _ := json.Marshal(hexed(texts)) // strings always can be
	sum := hmac.New(sha256.New, s.key)
	_, _ = sum.Write(list) // never fails
	return hex.EncodeToString(sum.Sum(nil))
}

// hexed keeps texts apart that JSON would make equal: bytes that aren't UTF-8.
func hexed(texts []string) []string {
	all := make([]string, len(texts))
	for i, text := range texts {
		all[i] = hex.EncodeToString([]byte(text))
	}
	return all
}

// tokenBytes is how much randomness a token's name has.
const tokenBytes = 32

var tokenForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// isToken says whether a text can be the name of a token that we've made. The
// cluster would let us delete any other as well: what a container says is no
// reason to.
func isToken(text string) bool { return tokenForm.MatchString(text) }
