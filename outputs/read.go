package outputs

import (
	"context"
	"errors"
	"io/fs"

	"github.com/gravitational/trace"

	"rollcall/cluster"
	"rollcall/destination"
	"rollcall/failure"
)

// readTries is how often a set that changes while it's read is read anew.
const readTries = 3

// ReadCredentials returns the credentials that an output, ours or the official
// agent's, has written to a place. None is a failure.NotFound.
func ReadCredentials(ctx context.Context, place destination.Destination) (*cluster.Credentials, error) {
	var err error
	for range readTries {
		var creds *cluster.Credentials
		creds, err = readCredentials(ctx, place)
		if err == nil || failure.KindOf(err) != failure.Other {
			return creds, err
		}
	}
	return nil, failure.Wrap(failure.Configuration, err,
		"the files %s and %s in %s aren't a certificate and its key: is another program writing there?", fileTLSCert, fileKey, place)
}

func readCredentials(ctx context.Context, place destination.Destination) (*cluster.Credentials, error) {
	read := func(name string) ([]byte, error) {
		data, err := place.Read(ctx, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, failure.Wrap(failure.NotFound, err, "there are no credentials in %s: the file %s is missing", place, name)
		case errors.Is(err, fs.ErrPermission):
			return nil, failure.Wrap(failure.Configuration, err, "the file %s in %s can't be read: the permission is missing; name this user among the destination's readers, or run as the files' owner", name, place)
		}
		return data, trace.Wrap(err)
	}
	key, err := read(fileKey)
	if err != nil {
		return nil, err
	}
	cert, err := read(fileTLSCert)
	if err != nil {
		return nil, err
	}
	var authorities [][]byte
	host, err := place.Read(ctx, fileHostCA)
	if err == nil && len(host) > 0 {
		authorities = append(authorities, host)
	}
	creds, err := cluster.RestoreCredentials(key, cert, nil, authorities, nil)
	return creds, trace.Wrap(err)
}
