package dynamic

import (
	"slices"

	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/discovery/resource"
)

func appForm() form[types.Application] {
	return form[types.Application]{
		blank: func() types.Application { return &types.AppV3{} },
		read:  readApp,
		merge: mergeApp,
	}
}

// ReadApp returns an application in our form, wherever it was found.
func ReadApp(app types.Application) resource.Resource { return readApp(app) }

func readApp(app types.Application) resource.Resource {
	spec := resource.AppSpec{
		URI:                app.GetURI(),
		PublicAddr:         app.GetPublicAddr(),
		InsecureSkipVerify: app.GetInsecureSkipVerify(),
		Rewrite:            readRewrite(app.GetRewrite()),
	}
	if v3, ok := app.(*types.AppV3); ok {
		spec.DynamicLabels = readDynamicLabels(v3.Spec.DynamicLabels)
	}
	return readMetadata(resource.KindApp, app.GetMetadata(), spec)
}

func mergeApp(into types.Application, r resource.Resource) error {
	app, ok := into.(*types.AppV3)
	if !ok {
		return trace.BadParameter("this version of rollcall doesn't know an application of the type %T", into)
	}
	spec, err := specOf[resource.AppSpec](r)
	if err != nil {
		return trace.Wrap(err)
	}
	labels, err := writeDynamicLabels(spec.DynamicLabels)
	if err != nil {
		return trace.Wrap(err)
	}
	writeMetadata(&app.Metadata, r)
	if app.Spec.URI != spec.URI {
		app.Spec.Cloud = "" // Teleport reads it off the URI
	}
	app.Spec.URI = spec.URI
	app.Spec.PublicAddr = spec.PublicAddr
	app.Spec.InsecureSkipVerify = spec.InsecureSkipVerify
	app.Spec.Rewrite = writeRewrite(app.Spec.Rewrite, spec.Rewrite)
	app.Spec.DynamicLabels = labels
	return trace.Wrap(app.CheckAndSetDefaults())
}

func readRewrite(rewrite *types.Rewrite) *resource.Rewrite {
	if rewrite == nil || len(rewrite.Headers) == 0 && len(rewrite.Redirect) == 0 {
		return nil
	}
	read := &resource.Rewrite{Redirect: slices.Clone(rewrite.Redirect)}
	for _, header := range rewrite.Headers {
		if header != nil {
			read.Headers = append(read.Headers, resource.Header{Name: header.Name, Value: header.Value})
		}
	}
	return read
}

// writeRewrite keeps what is said about JWT claims.
func writeRewrite(was *types.Rewrite, rewrite *resource.Rewrite) *types.Rewrite {
	if rewrite == nil {
		rewrite = &resource.Rewrite{}
	}
	written := &types.Rewrite{}
	if was != nil {
		written.JWTClaims = was.JWTClaims
	}
	written.Redirect = slices.Clone(rewrite.Redirect)
	for _, header := range rewrite.Headers {
		written.Headers = append(written.Headers, &types.Header{Name: header.Name, Value: header.Value})
	}
	if len(written.Headers) == 0 && len(written.Redirect) == 0 && written.JWTClaims == "" {
		return nil
	}
	return written
}
