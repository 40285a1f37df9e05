package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"rollcall/e2e/harness"
)

// load makes requests of one application by one way to it.
type load struct {
	client *http.Client
	base   string
	// name is what the application calls itself: an answer without it is the
	// proxy's own.
	name string
}

// newLoad keeps as many connections as there are requests at once. config is
// nil for plain HTTP; dial is where base really is.
func newLoad(app *harness.WebApp, base, dial string, config *tls.Config) *load {
	return &load{base: base, name: app.Name, client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: config, MaxIdleConnsPerHost: atOnce, DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, dial)
		},
	}}}
}

// small makes n small requests, atOnce at a time, and returns how many were
// answered per second and how long each took, in rising order.
func (l *load) small(ctx context.Context, n int) (perSecond float64, took []time.Duration, err error) {
	took = make([]time.Duration, n)
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	begun := time.Now()
	for range atOnce {
		group.Go(func() error {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				one := time.Now()
				if _, err := l.do(ctx, http.MethodGet, "/bytes?n=100", nil, 100); err != nil {
					return err
				}
				took[i-1] = time.Since(one)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, nil, err
	}
	wall := time.Since(begun)
	slices.Sort(took)
	return float64(n) / wall.Seconds(), took, nil
}

// download gets a large body, and returns MiB per second.
func (l *load) download(ctx context.Context, size int64) (float64, error) {
	took, err := l.do(ctx, http.MethodGet, fmt.Sprintf("/bytes?n=%d", size), nil, size)
	return mib(size) / took.Seconds(), err
}

// upload posts a large body, and returns MiB per second.
func (l *load) upload(ctx context.Context, size int64) (float64, error) {
	took, err := l.do(ctx, http.MethodPost, "/discard", io.LimitReader(&harness.Endless{}, size), -1)
	return mib(size) / took.Seconds(), err
}

// do makes one request, reads all of the answer, and fails unless it's the
// application's and has that many bytes (-1: any number).
func (l *load) do(ctx context.Context, method, path string, body io.Reader, want int64) (time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, method, l.base+path, body)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	response, err := l.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	got, err := io.Copy(io.Discard, response.Body)
	switch {
	case err != nil:
		return 0, err
	case response.StatusCode != http.StatusOK || response.Header.Get("Webapp") != l.name:
		return 0, fmt.Errorf("%s %s: not the application's answer: %s", method, path, response.Status)
	case want >= 0 && got != want:
		return 0, fmt.Errorf("%s %s: %d bytes, want %d", method, path, got, want)
	}
	return time.Since(begun), nil
}

// percentile of durations in rising order, in milliseconds.
func percentile(sorted []time.Duration, percent int) float64 {
	at := min(len(sorted)*percent/100, len(sorted)-1)
	return sorted[at].Seconds() * 1000
}
