package dynamic

import (
	"github.com/gravitational/teleport/api/types"
	"github.com/gravitational/trace"

	"rollcall/discovery/resource"
)

func desktopForm() form[types.WindowsDesktop] {
	return form[types.WindowsDesktop]{
		blank: func() types.WindowsDesktop { return &types.WindowsDesktopV3{} },
		read:  readDesktop,
		merge: mergeDesktop,
		// A desktop's key is its host ID and its name.
		holds: func(desktop types.WindowsDesktop, r resource.Resource) bool {
			spec, err := specOf[resource.WindowsDesktopSpec](r)
			return err == nil && spec.HostID == desktop.GetHostID()
		},
	}
}

func readDesktop(desktop types.WindowsDesktop) resource.Resource {
	return readMetadata(resource.KindWindowsDesktop, desktop.GetMetadata(), resource.WindowsDesktopSpec{
		Addr:   desktop.GetAddr(),
		HostID: desktop.GetHostID(),
		Domain: desktop.GetDomain(),
		NonAD:  desktop.NonAD(),
	})
}

func mergeDesktop(into types.WindowsDesktop, r resource.Resource) error {
	desktop, ok := into.(*types.WindowsDesktopV3)
	if !ok {
		return trace.BadParameter("this version of rollcall doesn't know a Windows desktop of the type %T", into)
	}
	spec, err := specOf[resource.WindowsDesktopSpec](r)
	if err != nil {
		return trace.Wrap(err)
	}
	if spec.HostID == "" {
		return trace.BadParameter("it has no host_id: it's the host ID of the windows_desktop_service that serves it")
	}
	writeMetadata(&desktop.Metadata, r)
	desktop.Spec.Addr = spec.Addr
	desktop.Spec.HostID = spec.HostID
	desktop.Spec.Domain = spec.Domain
	desktop.Spec.NonAD = spec.NonAD
	return trace.Wrap(desktop.CheckAndSetDefaults())
}
