package harness

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/gravitational/teleport/api/client/proto"
	"github.com/gravitational/teleport/api/types"
)

// App is a dynamic application of the cluster.
type App struct {
	// Name is its resource name, a DNS label.
	Name string
	// PublicAddr is the host name that the proxy serves it under,
	// NAME.apps.localhost.
	PublicAddr string
}

// CreateApp registers a dynamic application and waits until it can be reached.
func (c *Cluster) CreateApp(t T, name, uri string, labels map[string]string) App {
	t.Helper()
	return c.CreateApps(t, []string{name}, uri, labels)[0]
}

// CreateApps registers many applications at one address, and waits for all of
// them. The Application Service holds at most about 900.
func (c *Cluster) CreateApps(t T, names []string, uri string, labels map[string]string) []App {
	t.Helper()
	apps := make([]App, 0, len(names))
	for _, name := range names {
		app := App{Name: name, PublicAddr: name + ".apps.localhost"}
		resource, err := types.NewAppV3(types.Metadata{Name: name, Labels: labels},
			types.AppSpecV3{URI: uri, PublicAddr: app.PublicAddr})
		if err != nil {
			t.Fatalf("application %s: %v", name, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
		err = c.Client(t).CreateApp(ctx, resource)
		cancel()
		if err != nil {
			t.Fatalf("application %s: %v", name, err)
		}
		apps = append(apps, app)
	}
	for _, name := range names {
		c.WaitForApp(t, name)
	}
	return apps
}

// WaitForApp waits until an Application Service serves the application.
func (c *Cluster) WaitForApp(t T, name string) {
	t.Helper()
	admin := c.Client(t)
	Eventually(t, time.Minute, "application "+name, func() error {
		found, err := admin.ListResources(t.Context(), proto.ListResourcesRequest{
			ResourceType:        types.KindAppServer,
			Limit:               1,
			PredicateExpression: fmt.Sprintf("name == %q", name),
		})
		if err != nil {
			return err
		}
		if len(found.Resources) == 0 {
			return fmt.Errorf("no Application Service serves it")
		}
		return nil
	})
}

// DeleteApp removes a dynamic application. Its app_server record may stay
// listed for some minutes.
func (c *Cluster) DeleteApp(t T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	if err := c.Client(t).DeleteApp(ctx, name); err != nil {
		t.Fatalf("delete application %s: %v", name, err)
	}
}

// Sample is an HTTP application to be reached through the cluster.
type Sample struct {
	// URL is where it listens on loopback.
	URL string
	// Text is the first line of every answer, and nobody else's.
	Text string

	// mu protects the following.
	mu       sync.Mutex
	requests []string
}

// SampleApp starts an application that answers every request with its Text,
// the request line and the request's headers. It ends with the test.
func SampleApp(t T) *Sample {
	t.Helper()
	s := &Sample{Text: "This is the sample application of " + unique(t, "sample") + "."}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// ServeHTTP answers one request.
func (s *Sample) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, s.Text)
	fmt.Fprintf(w, "%s %s\n", r.Method, r.URL.Path)
	for _, line := range headerLines(r.Header) {
		fmt.Fprintln(w, line)
	}
}

// headerLines lists headers in order; the ones that are credentials by name
// only.
func headerLines(headers http.Header) []string {
	var lines []string
	for name, values := range headers {
		switch name {
		case "Teleport-Jwt-Assertion", "Cookie", "Authorization":
			lines = append(lines, name+": (not shown)")
		default:
			lines = append(lines, name+": "+strings.Join(values, ", "))
		}
	}
	sort.Strings(lines)
	return lines
}

// Requests lists the requests so far as "METHOD PATH".
func (s *Sample) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}
