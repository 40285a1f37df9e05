// Package passed knows how to listen more than once on a socket that was handed
// over, such as by systemd: whoever closes it can't make it again. It doesn't know
// who handed it over, or what it's for.
package passed

import (
	"errors"
	"net"
	"os"

	"github.com/gravitational/trace"
)

// ErrNoDescriptor says that a listener isn't the kernel's own socket.
var ErrNoDescriptor = errors.New("the listener has no descriptor, and can't be listened on again")

// Again returns another listener on the same socket. Each is closed by itself;
// connections that nobody has accepted stay in the socket, for the other. A
// listener that has no descriptor of its own is ErrNoDescriptor.
func Again(listener net.Listener) (net.Listener, error) {
	described, ok := listener.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, ErrNoDescriptor
	}
	file, err := described.File()
	if err != nil {
		return nil, trace.Wrap(err)
	}
	defer file.Close() // FileListener has a duplicate
	another, err := net.FileListener(file)
	return another, trace.Wrap(err)
}
