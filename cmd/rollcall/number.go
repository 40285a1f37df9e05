package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// number is a flag's whole number. It refuses in plain words what is none, or is
// out of bounds.
type number struct {
	to          *int
	least, most int
}

// numberFlag defines a flag; shorthand may be empty.
func numberFlag(flags *pflag.FlagSet, n number, name, shorthand string, usual int, usage string) {
	*n.to = usual
	flags.VarP(n, name, shorthand, usage)
}

// Set is pflag.Value's.
func (n number) Set(text string) error {
	value, err := strconv.Atoi(text)
	if err != nil || value < n.least || value > n.most {
		return fmt.Errorf("a whole number from %d to %d", n.least, n.most)
	}
	*n.to = value
	return nil
}

// String is pflag.Value's.
func (n number) String() string {
	if n.to == nil {
		return "0"
	}
	return strconv.Itoa(*n.to)
}

// Type is pflag.Value's.
func (n number) Type() string { return "number" }

// valueError says in plain words what a flag's value must be. pflag's own errors
// quote the functions that they come from.
func valueError(err *pflag.InvalidValueError) error {
	flag, value := err.GetFlag(), err.GetValue()
	var want, remedy string
	switch flag.Value.Type() {
	case "duration":
		want = "a duration, like 20m or 1h"
		if strings.Trim(value, "0123456789") == "" {
			remedy = fmt.Sprintf("; give a unit: %ss, %sm or %sh", value, value, value)
		}
	case "bool":
		want = "true or false"
	case "number":
		want = errors.Unwrap(err).Error()
	default:
		return err
	}
	return fmt.Errorf("--%s must be %s, not %q%s", flag.Name, want, value, remedy)
}
