// Package systemd knows the unit file, the polkit rule beside it, and the protocols between a service and
// systemd: readiness and watchdog messages, the credentials directory, and
// sockets that are passed. It doesn't know what the agent does. Outside systemd
// everything here is inert.
package systemd
