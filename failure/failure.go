// Package failure knows the kinds of errors that decide what the agent does
// next: try again, give up on one thing, or stop and tell the user. Every room
// may use it; it knows none of them.
//
// A failure carries a sentence for the user (what is wrong, where, and what to
// do about it) and the cause below it. Callers switch on the kind, never on
// text: the one place that reads texts is package cluster, which translates
// what a Teleport server says.
package failure

import (
	"errors"
	"fmt"
)

// Kind says what can be done about an error.
type Kind uint8

const (
	// Other is an error nobody has classified; it's treated like Transient.
	Other Kind = iota
	// Configuration means that the file, a flag or the host must be changed.
	Configuration
	// Refused means that the cluster said no and will say no again.
	Refused
	// Unreachable means that nobody answered; trying again may help.
	Unreachable
	// Transient means that the cluster answered, but couldn't do it just now.
	Transient
	// NotFound means that the named thing doesn't exist (yet).
	NotFound
	// Trust means that the peer isn't who it must be: wrong pin, unknown CA.
	Trust
	// Conflict means that something else has the name already.
	Conflict
)

// String returns the kind's name as logs and metrics show it.
func (k Kind) String() string {
	switch k {
	case Configuration:
		return "configuration"
	case Refused:
		return "refused"
	case Unreachable:
		return "unreachable"
	case Transient:
		return "transient"
	case NotFound:
		return "not_found"
	case Trust:
		return "trust"
	case Conflict:
		return "conflict"
	default:
		return "other"
	}
}

// MarshalText gives JSON logs the name and not the number.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Error is a classified error with a sentence for the user.
type Error struct {
	// Kind decides what happens next.
	Kind Kind
	// Sentence is for the user: what is wrong and what to do. It never holds
	// a secret.
	Sentence string
	// Err is the cause, shown with --debug only; may be nil.
	Err error
}

// Error returns the sentence alone, so that a chain of wrapped errors reads as
// one text. Package errors reaches the cause.
func (e *Error) Error() string { return e.Sentence }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns an error of a kind with a sentence.
func New(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Sentence: fmt.Sprintf(format, args...)}
}

// Wrap gives err a kind and a sentence. It returns nil if err is nil.
func Wrap(kind Kind, err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: kind, Sentence: fmt.Sprintf(format, args...), Err: err}
}

// KindOf returns the kind of the outermost classified error in err's chain, or
// Other.
func KindOf(err error) Kind {
	var f *Error
	if errors.As(err, &f) {
		return f.Kind
	}
	return Other
}
