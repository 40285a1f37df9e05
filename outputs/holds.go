package outputs

import (
	"bytes"
	"context"
	"errors"
	"io/fs"

	"rollcall/cluster"
)

// Holds says whether the files in place have these authorities. An output that
// hasn't written anything yet holds nothing that could be out of date. It may
// be called while Run or Once is at work.
func (r *renewer) Holds(ctx context.Context, cas *cluster.Authorities) bool {
	for name, want := range map[string][]byte{
		fileHostCA:     joinTLSCerts(cas.Host),
		fileUserCA:     joinTLSCerts(cas.User),
		fileDatabaseCA: joinTLSCerts(cas.Database),
	} {
		data, err := r.deps.Destination.Read(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !bytes.Equal(data, want) {
			return false
		}
	}
	return true
}
