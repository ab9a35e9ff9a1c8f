package ipvs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A place is a network namespace with the means to work in it.
type place struct {
	ns   netns.NsHandle
	link *netlink.Handle
	// mended, unless nil, hears of everything that was not as it should be.
	mended func(what string)
}

// mend notes that something was not as it should be, and is now.
func (p *place) mend(format string, args ...any) {
	if p.mended != nil {
		p.mended(fmt.Sprintf(format, args...))
	}
}

// openPlace opens the namespace at path, or the process's own for "".
func openPlace(path string) (*place, error) {
	var ns netns.NsHandle
	var err error
	if path == "" {
		path = "of the process"
		ns, err = netns.Get()
	} else {
		ns, err = netns.GetFromPath(path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening namespace %s: %w", path, err)
	}
	// Without a family NewHandleAt opens XFRM too, which small kernels lack.
	link, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening netlink in %s: %w", path, err), ns.Close())
	}
	return &place{ns: ns, link: link}, nil
}

func (p *place) close() {
	p.link.Close()
	p.ns.Close() // of a descriptor that was only read: it has nothing to lose
}

// do runs f on a thread inside p.
func (p *place) do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(p.ns); err != nil {
			return fmt.Errorf("entering the namespace: %w", err)
		}
		return f()
	})
}

// onThread runs f on a thread that is never unlocked, so that it dies with its
// goroutine, whatever namespace f took it to.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// pin makes sure that a network namespace is mounted at path. One that is
// there is kept: it holds the rows and connections of an earlier run.
func pin(path string) error {
	switch pinned, err := isNetNS(path); {
	case err != nil:
		return err
	case pinned:
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the directory of the namespace: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o444)
	if err != nil {
		return fmt.Errorf("making the mount point: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("making the mount point: %w", err)
	}
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a namespace: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting the namespace at %s: %w", path, err)
		}
		return nil
	})
}

// isNetNS is whether a network namespace is mounted at path. A plain file is
// what a reboot leaves of one.
func isNetNS(path string) (bool, error) {
	var st unix.Statfs_t
	switch err := unix.Statfs(path, &st); {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking at %s: %w", path, err)
	case st.Type != unix.NSFS_MAGIC:
		return false, nil
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("opening %s: %w", path, err)
	}
	defer unix.Close(fd)
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	switch {
	case err != nil:
		return false, fmt.Errorf("asking %s for its kind: %w", path, err)
	case kind != unix.CLONE_NEWNET:
		return false, fmt.Errorf("%s is a namespace, but none of the network", path)
	}
	return true, nil
}

// unpin unmounts whatever is mounted at path and removes the mount point and
// its directory. A directory that holds something else stays.
func unpin(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil:
			continue // mounts pile up: there may be one below
		case errors.Is(err, unix.EINVAL): // not a mount point
		case errors.Is(err, fs.ErrNotExist):
			return nil
		default:
			return fmt.Errorf("unmounting %s: %w", path, err)
		}
		break
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the mount point: %w", err)
	}
	err := os.Remove(filepath.Dir(path))
	if err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the directory of the namespace: %w", err)
	}
	return nil
}
