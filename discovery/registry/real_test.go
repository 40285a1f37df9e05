//go:build rollcall_e2e

package registry_test

import "testing"

func TestNothingYet(t *testing.T) {}
