package main

import (
	"errors"

	"rollcall/failure"
	"rollcall/identity"
)

// Exit codes; the README has them as a table.
const (
	exitOK            = 0
	exitConfiguration = 1
	exitFailed        = 2
	exitRefused       = 3
	exitUnreachable   = 4
	exitStorage       = 5
)

// usageError marks a command line that can't be understood.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// shownError is an error that the user has seen already, with its exit code.
type shownError struct {
	err  error
	code int
}

func (e *shownError) Error() string { return e.err.Error() }
func (e *shownError) Unwrap() error { return e.err }

// codedError is an error whose exit code the command decides.
type codedError struct {
	err  error
	code int
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

func asShown(err error, to **shownError) bool { return errors.As(err, to) }

// exitCode turns an error into the process's exit code.
func exitCode(err error) int {
	var shown *shownError
	if asShown(err, &shown) {
		return shown.code
	}
	var coded *codedError
	if errors.As(err, &coded) {
		return coded.code
	}
	var usage *usageError
	if errors.As(err, &usage) {
		return exitConfiguration
	}
	if errors.Is(err, identity.ErrLocked) || errors.Is(err, identity.ErrUnusable) {
		return exitStorage
	}
	switch failure.KindOf(err) {
	case failure.Configuration:
		return exitConfiguration
	case failure.Refused:
		return exitRefused
	case failure.Unreachable, failure.Trust:
		return exitUnreachable
	default:
		return exitFailed
	}
}
