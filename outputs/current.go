package outputs

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"

	"github.com/gravitational/trace"

	"rollcall/destination"
	"rollcall/failure"
)

// Current describes the set that a destination holds as if all of it had just
// changed. It returns a failure.NotFound if there's none.
func Current(ctx context.Context, files []string, place destination.Destination) (Change, error) {
	change := Change{Destination: place.String()}
	for _, name := range files {
		data, err := place.Read(ctx, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return Change{}, trace.Wrap(err)
		}
		change.Files = append(change.Files, name)
		if name != fileTLSCert {
			continue
		}
		cert, err := firstCertificate(data)
		if err != nil {
			return Change{}, failure.Wrap(failure.Other, err, "file %s in %s holds no certificate", name, place)
		}
		change.NotAfter, change.Serial = cert.NotAfter, serial(cert)
	}
	if change.Serial == "" {
		return Change{}, failure.New(failure.NotFound, "there is no certificate in %s yet: run `rollcall start` first", place)
	}
	return change, nil
}

func firstCertificate(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("it isn't PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// serial returns a serial number as openssl prints it.
func serial(cert *x509.Certificate) string {
	return fmt.Sprintf("%X", cert.SerialNumber.Bytes())
}
