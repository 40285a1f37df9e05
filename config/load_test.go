package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSmoke(t *testing.T) {
	c, err := Load("testdata/application.good.yml")
	require.NoError(t, err)
	t.Logf("%v", c)
}
