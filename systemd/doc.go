// Package systemd knows the protocols between a service and systemd: readiness
// and watchdog messages, and the credentials directory. It doesn't know what
// the agent does. Outside systemd everything here is inert.
package systemd
