package failure

import (
	"errors"
	"fmt"
)

// FieldError says what is wrong with one field of a room's options. The room
// that reads the configuration turns Field into a place in the file.
type FieldError struct {
	// Field is a YAML path within the options: "path", "readers[0].user".
	Field string
	// Message says what is wrong and what to do. It never holds a secret.
	Message string
}

// Error returns "field: message".
func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// Field returns a FieldError. Several are joined with errors.Join.
func Field(field, format string, args ...any) error {
	return &FieldError{Field: field, Message: fmt.Sprintf(format, args...)}
}

// Fields returns every FieldError that was joined into err, in order.
func Fields(err error) []*FieldError {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // Every layer is visited by itself.
		var all []*FieldError
		for _, one := range joined.Unwrap() {
			all = append(all, Fields(one)...)
		}
		return all
	}
	var field *FieldError
	if errors.As(err, &field) {
		return []*FieldError{field}
	}
	return nil
}
