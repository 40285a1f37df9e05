// Package hooks knows what runs after a set of files changed: a program, a
// signal, a systemd unit's reload, a directory of programs. It decides in which
// order, how often again after a failure, and what they're told. It knows
// nothing of certificates: what they're told comes from outside.
//
// Hooks live inside the rights of the process that runs them: its user, its
// groups, its sandbox.
package hooks
