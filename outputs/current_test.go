package outputs

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rollcall/destination"
	"rollcall/failure"
)

func TestCurrentOfAnEmptyPlace(t *testing.T) {
	place := destination.NewMemory()
	_, err := Current(t.Context(), []string{"tlscert"}, place)
	require.Equal(t, failure.NotFound, failure.KindOf(err))
	require.ErrorContains(t, err, "there is no certificate in memory yet")

	_, err = place.Write(t.Context(), destination.Set{"tlscert": []byte("words")})
	require.NoError(t, err)
	_, err = Current(t.Context(), []string{"tlscert"}, place)
	require.ErrorContains(t, err, "file tlscert in memory holds no certificate")
}
