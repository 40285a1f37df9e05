package dynamic

import (
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/discovery/resource"
)

func databaseForm() form[types.Database] {
	return form[types.Database]{
		blank: func() types.Database { return &types.DatabaseV3{} },
		read:  readDatabase,
		merge: mergeDatabase,
	}
}

func readDatabase(db types.Database) resource.Resource {
	spec := resource.DatabaseSpec{Protocol: db.GetProtocol(), URI: db.GetURI()}
	if v3, ok := db.(*types.DatabaseV3); ok {
		spec.CACert = v3.Spec.TLS.CACert
		if spec.CACert == "" {
			spec.CACert = v3.Spec.CACert //nolint:staticcheck // where older clients wrote it
		}
		spec.TLSMode = readTLSMode(v3.Spec.TLS.Mode)
		spec.ServerName = v3.Spec.TLS.ServerName
		spec.DynamicLabels = readDynamicLabels(v3.Spec.DynamicLabels)
	}
	return readMetadata(resource.KindDatabase, db.GetMetadata(), spec)
}

func mergeDatabase(into types.Database, r resource.Resource) error {
	db, ok := into.(*types.DatabaseV3)
	if !ok {
		return trace.BadParameter("this version of rollcall doesn't know a database of the type %T", into)
	}
	spec, err := specOf[resource.DatabaseSpec](r)
	if err != nil {
		return trace.Wrap(err)
	}
	mode, err := writeTLSMode(spec.TLSMode)
	if err != nil {
		return trace.Wrap(err)
	}
	labels, err := writeDynamicLabels(spec.DynamicLabels)
	if err != nil {
		return trace.Wrap(err)
	}
	writeMetadata(&db.Metadata, r)
	if db.Spec.URI != "" && db.Spec.URI != spec.URI {
		forgetDerived(db)
	}
	db.Spec.Protocol = spec.Protocol
	db.Spec.URI = spec.URI
	db.Spec.TLS.Mode = mode
	db.Spec.TLS.CACert = spec.CACert
	db.Spec.TLS.ServerName = spec.ServerName
	db.Spec.CACert = "" //nolint:staticcheck // it would count in place of the other
	db.Spec.DynamicLabels = labels
	return trace.Wrap(db.CheckAndSetDefaults())
}

// forgetDerived clears what Teleport read off the URI (a cloud's region and
// instance), which would speak of the old one for ever. What doesn't come from
// the URI stays.
func forgetDerived(db *types.DatabaseV3) {
	derived, err := types.NewDatabaseV3(types.Metadata{Name: db.GetName()},
		types.DatabaseSpecV3{Protocol: db.Spec.Protocol, URI: db.Spec.URI})
	if err != nil {
		return
	}
	if db.Spec.AWS.String() == derived.Spec.AWS.String() {
		db.Spec.AWS = types.AWS{}
	}
	if db.Spec.Azure.String() == derived.Spec.Azure.String() {
		db.Spec.Azure = types.Azure{}
	}
	if db.Spec.MongoAtlas.String() == derived.Spec.MongoAtlas.String() {
		db.Spec.MongoAtlas = types.MongoAtlas{}
	}
}

// readTLSMode gives the default no name, so that saying nothing and saying the
// default are one.
func readTLSMode(mode types.DatabaseTLSMode) string {
	switch mode {
	case types.DatabaseTLSMode_VERIFY_CA:
		return "verify-ca"
	case types.DatabaseTLSMode_INSECURE:
		return "insecure"
	default:
		return ""
	}
}

func writeTLSMode(mode string) (types.DatabaseTLSMode, error) {
	switch mode {
	case "", "verify-full":
		return types.DatabaseTLSMode_VERIFY_FULL, nil
	case "verify-ca":
		return types.DatabaseTLSMode_VERIFY_CA, nil
	case "insecure":
		return types.DatabaseTLSMode_INSECURE, nil
	default:
		return 0, trace.BadParameter("tls_mode %q is unknown: it's verify-full, verify-ca or insecure", mode)
	}
}
