package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"rollcall/e2e/harness"
)

// tunnelAct shows that a program without mutual TLS reaches the application: by
// a service with certificates of its own, and by the command with the files
// that are there.
func (s *story) tunnelAct() {
	s.tunnelService()
	s.tunnelCommand()
}

// tunnelService adds the service to the configuration, restarts the agent and
// asks plainly.
func (s *story) tunnelService() {
	s.tell.step("A program that can't do mutual TLS")
	address := s.freeAddress()
	service := fmt.Sprintf("services:\n  - type: application-tunnel\n    app_name: %s\n    listen: tcp://%s\n", s.app.Name, address)
	config, err := os.ReadFile(s.path("rollcall.yaml"))
	must(s.t, "read the configuration", err)
	must(s.t, "write the configuration", os.WriteFile(s.path("rollcall.yaml"), append(config, service...), 0o600))
	s.tell.typed("cat >>rollcall.yaml <<EOF")
	s.tell.showed(service + "EOF")
	s.tell.typed(fmt.Sprintf("kill %d; rollcall start -c rollcall.yaml &", s.agent.PID))
	s.agent.Terminate(s.t)
	s.agent = s.rollcall("start", "-c", "rollcall.yaml")
	s.plainly(s.agent, address, "/through-the-tunnel")
	s.tell.say("Neither a certificate nor TLS on the program's side. The tunnel's own is in memory alone.")
}

// tunnelCommand uses the files of the output.
func (s *story) tunnelCommand() {
	s.tell.step("The same, with the credentials on the disk and nothing else")
	address := s.freeAddress()
	_, port, err := net.SplitHostPort(address)
	must(s.t, "address", err)
	args := []string{"proxy", "--destination-dir=credentials", "--proxy=" + s.cluster.Info().ProxyAddr,
		"--proxy-ca=" + s.cluster.Info().ProxyCA, "app", "--port=" + port, s.app.Name}
	s.tell.typed("rollcall " + strings.Join(args, " ") + " &")
	p := s.rollcall(args...)
	p.WaitForLog(s.t, patience, "Proxying connections")
	s.tell.showed(p.Stdout.String())
	s.plainly(p, address, "/through-the-command")
	p.Terminate(s.t)
}

// plainly asks with curl as anybody would.
func (s *story) plainly(p *harness.Process, address, path string) {
	_, port, err := net.SplitHostPort(address)
	must(s.t, "address", err)
	args := []string{"--silent", "--show-error", "--fail", "http://localhost:" + port + path}
	s.tell.typed("curl " + strings.Join(args, " "))
	begun := time.Now()
	var answer []byte
	p.WaitFor(s.t, patience, "the answer through the tunnel", func() error {
		answer, err = exec.CommandContext(s.t.Context(), "curl", args...).Output()
		return err
	})
	s.tell.showed(string(answer))
	s.tell.say("The answer was there %s after the start.", round(time.Since(begun)))
}

// freeAddress is one of loopback that nobody listens at now.
func (s *story) freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(s.t, "a free port", err)
	defer listener.Close()
	return listener.Addr().String()
}
