package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// debian is the release whose systemd is tested: the oldest that is supported.
const debian = "bookworm"

// SystemdRoot returns a root file system with systemd as Debian ships it, made
// by debootstrap on the first call (under a minute, 250 MB, kept beside the
// binaries). It's never written to: boot it with an overlay. The caller is
// root.
func SystemdRoot(ctx context.Context, out io.Writer) (string, error) {
	e2e, err := moduleDir()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(e2e, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	lock, err := lockFile(filepath.Join(bin, ".lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	// A hidden name: `go list ./...` doesn't look inside.
	root := filepath.Join(bin, ".systemd-"+debian)
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	unfinished, packages := root+".new", root+".packages"
	if err := os.MkdirAll(packages, 0o755); err != nil {
		return "", err
	}
	step := target{
		name: "systemd", what: "a root file system with systemd (under a minute, once)", dir: bin,
		// logind isn't wanted, but polkit depends on it.
		command: []string{"debootstrap", "--variant=minbase", "--cache-dir=" + packages, "--include=systemd,systemd-sysv,dbus,polkitd,libpam-systemd,procps", debian, unfinished},
	}
	if err := again(ctx, out, func() error {
		// What a run that was cut off has left.
		if err := os.RemoveAll(unfinished); err != nil {
			return err
		}
		return step.build(ctx, out)
	}); err != nil {
		return "", err
	}
	if err := prepareRoot(unfinished); err != nil {
		return "", fmt.Errorf("prepare %s: %w", unfinished, err)
	}
	return root, errors.Join(os.RemoveAll(packages), os.Rename(unfinished, root))
}

// again does what needs the network up to three times. Packages that were fetched
// aren't fetched again.
func again(ctx context.Context, out io.Writer, do func() error) (err error) {
	for attempt := range 3 {
		if attempt > 0 {
			fmt.Fprintf(out, "  it's tried again: %.300v\n", err)
			select {
			case <-time.After(5 * time.Second):
			case <-ctx.Done():
				return err
			}
		}
		if err = do(); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// prepareRoot masks what makes no sense without a console and hardware.
func prepareRoot(root string) error {
	for _, unit := range []string{
		"systemd-logind.service", "getty.target", "console-getty.service", "systemd-firstboot.service",
		"systemd-udevd.service", "systemd-udev-trigger.service", "apt-daily.timer", "apt-daily-upgrade.timer",
	} {
		link := filepath.Join(root, "etc/systemd/system", unit)
		if err := os.Symlink("/dev/null", link); err != nil && !os.IsExist(err) {
			return err
		}
	}
	hosts := "127.0.0.1 localhost\n::1 localhost\n"
	if err := os.WriteFile(filepath.Join(root, "etc/hosts"), []byte(hosts), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, "etc/machine-id"), nil, 0o444)
}
