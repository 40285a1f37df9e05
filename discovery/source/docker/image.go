package docker

import (
	"errors"
	"regexp"
	"strings"

	"github.com/distribution/reference"
	types "github.com/docker/docker/api/types/container"
)

// imageID is an image's ID, whole or its beginning, with or without sha256:.
var imageID = regexp.MustCompile(`^(sha256:)?[0-9a-f]{12,64}$`)

// The Engine has a filter for images, and it isn't used. It turns a name into
// the ID that the name has now: once the name is pulled or built anew,
// containers of the older image don't match any more, and when it can't read
// its images at all it answers an empty list instead of an error. Either would
// be taken for "these containers are gone".

// checkImage wants what ofImage can compare.
func checkImage(text string) error {
	if imageID.MatchString(text) {
		return nil
	}
	if _, err := reference.ParseNormalizedNamed(text); err != nil {
		return errors.New("write an image as docker run takes it, rabbitmq:3-management, or its ID")
	}
	return nil
}

// ofImage says if a container that was started from words, and runs the image
// of this ID, matches Ancestor. Without the filter all do.
func (f Filters) ofImage(words, id string) bool {
	if len(f.Ancestor) == 0 {
		return true
	}
	for _, want := range f.Ancestor {
		if sameID(want, id) || sameImage(want, words) {
			return true
		}
	}
	return false
}

// mayBeOf says if an entry of the list is worth asking for its details. The
// list has the ID in place of the words as soon as the words mean another
// image; then only the details tell the words.
func (f Filters) mayBeOf(c types.Summary) bool {
	return c.Image == "" || imageID.MatchString(c.Image) || f.ofImage(c.Image, c.ImageID)
}

func sameID(want, id string) bool {
	hex := strings.TrimPrefix(id, "sha256:")
	return hex != "" && imageID.MatchString(want) && strings.HasPrefix(hex, strings.TrimPrefix(want, "sha256:"))
}

// sameImage compares two names as Docker does: with docker.io/library/ and
// :latest where they're left out. A digest counts only if it's wanted, and then
// alone.
func sameImage(want, words string) bool {
	wanted, err := reference.ParseNormalizedNamed(want)
	if err != nil {
		return false
	}
	given, err := reference.ParseNormalizedNamed(words)
	if err != nil || wanted.Name() != given.Name() {
		return false
	}
	if digested, ok := wanted.(reference.Digested); ok {
		other, ok := given.(reference.Digested)
		return ok && digested.Digest() == other.Digest()
	}
	return tagOf(wanted) == tagOf(given)
}

// tagOf is "" for a name with a digest alone: it isn't known which tag that is.
func tagOf(name reference.Named) string {
	if tagged, ok := name.(reference.Tagged); ok {
		return tagged.Tag()
	}
	if _, ok := name.(reference.Digested); ok {
		return ""
	}
	return "latest"
}
