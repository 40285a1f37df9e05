package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"rollcall/e2e/harness"
)

// profileSeconds is how long the CPU is profiled from the start on.
const profileSeconds = 10

// profile starts a daemon with this many outputs, and keeps profiles of its
// first issue: where the CPU time goes, what is allocated, and what is kept.
func (s *stage) profile(size int, into string) {
	if err := os.MkdirAll(into, 0o755); err != nil {
		s.t.Fatalf("profiles: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatalf("profiles: %v", err)
	}
	addr := listener.Addr().String()
	listener.Close()
	config, dir := s.config(size, unsettled+"debug: true\ndiag_addr: "+addr+"\n")
	defer os.RemoveAll(dir)
	s.calm()
	p := s.cluster.Rollcall(s.t, "start", "-c", config)
	s.keep(p, addr, fmt.Sprintf("profile?seconds=%d", profileSeconds), filepath.Join(into, "cpu.pprof"))
	s.versions(p, s.outputs(dir, "..data", size), make([]string, size))
	s.keep(p, addr, "allocs", filepath.Join(into, "allocs.pprof"))
	s.keep(p, addr, "heap?gc=1", filepath.Join(into, "heap.pprof"))
	s.keep(p, addr, "goroutine?debug=1", filepath.Join(into, "goroutines.txt"))
	p.Terminate(s.t)
	s.say("profiles of %d outputs are in %s: go tool pprof %s %s", size, into, s.suite.Bin.Rollcall, filepath.Join(into, "cpu.pprof"))
}

// keep fetches one profile into a file.
func (s *stage) keep(p *harness.Process, addr, what, path string) {
	client := http.Client{Timeout: (profileSeconds + 20) * time.Second}
	p.WaitFor(s.t, time.Minute, what, func() error {
		response, err := client.Get("http://" + addr + "/debug/pprof/" + what)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		content, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %.100s", response.Status, content)
		}
		return os.WriteFile(path, content, 0o644)
	})
}
