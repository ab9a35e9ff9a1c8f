package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	hubBridge = "mgmt"

	// Variables that whoever starts a guest sets.
	envDir = "HERALD_LAB_DIR" // kubeconfigs of a control plane that is outside
	envUML = "HERALD_LAB_UML" // this is User-Mode Linux

	// guestLink is the guest's way out to the control plane.
	guestLink  = "vec0"
	guestOwnIP = "10.78.0.2/24"

	readyWithin = 2 * time.Minute
)

// A ControlPlane is an API server with etcd and the controllers that Services
// need, on a management network of its own. Many labs use it, one at a time.
type ControlPlane struct {
	API *API

	prefix string     // of the names of namespaces
	run    string     // folder for all files
	dir    string     // where the kubeconfigs are
	hub    *Namespace // the management network
	proc   *process   // nil if it runs outside
	herald string     // the binary under test
}

// StartControlPlane starts the control plane, or joins the one outside, and
// applies Herald's own manifests. Namespaces get names that begin with prefix,
// and files go to the folder run.
func StartControlPlane(ctx context.Context, prefix, run string) (*ControlPlane, error) {
	cp := &ControlPlane{prefix: prefix, run: run}
	err := cp.start(ctx)
	if err == nil {
		err = cp.install(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting the control plane: %w", err), cp.Close())
	}
	return cp, nil
}

func (cp *ControlPlane) start(ctx context.Context) (err error) {
	if err := os.MkdirAll(cp.run, 0o755); err != nil {
		return err
	}
	if cp.hub, err = newNamespace(cp.prefix + "cp"); err != nil {
		return err
	}
	if err := cp.hub.bridge(hubBridge); err != nil {
		return err
	}
	if cp.dir = os.Getenv(envDir); cp.dir != "" {
		err = cp.join()
	} else {
		err = cp.launch(ctx)
	}
	if err != nil {
		return err
	}
	config, err := cp.config("admin")
	if err != nil {
		return err
	}
	cp.API, err = newAPI(config)
	return err
}

// join moves the guest's link to the outside into the management network.
func (cp *ControlPlane) join() error {
	link, err := netlink.LinkByName(guestLink)
	if err != nil {
		return fmt.Errorf("finding %s, which leads to the control plane: %w", guestLink, err)
	}
	if err := netlink.LinkSetNsFd(link, int(cp.hub.handle)); err != nil {
		return fmt.Errorf("moving %s into the management network: %w", guestLink, err)
	}
	return errors.Join(
		plug{ns: cp.hub, link: guestLink, bridge: hubBridge}.connect(),
		cp.hub.address(hubBridge, guestOwnIP),
	)
}

// launch starts a control plane here.
func (cp *ControlPlane) launch(ctx context.Context) error {
	labkube, err := Tool("LABKUBE")
	if err != nil {
		return err
	}
	if err := cp.hub.address(hubBridge, apiServer+"/24"); err != nil {
		return err
	}
	cp.dir = filepath.Join(cp.run, "control-plane")
	if err := os.MkdirAll(cp.dir, 0o755); err != nil {
		return err
	}
	log := cp.log("labkube")
	cp.proc, err = cp.hub.start("labkube", log, labkube, "all", cp.dir,
		"--server-url", "https://"+apiServer+":6443", "--advertise-address", apiServer)
	if err != nil {
		return err
	}
	return cp.awaitReady(ctx, log)
}

// awaitReady waits for the line "ready" in the log.
func (cp *ControlPlane) awaitReady(ctx context.Context, log string) error {
	return poll(ctx, readyWithin, func() error {
		if !cp.proc.alive() {
			return giveUp{fmt.Errorf("labkube has ended: %w\n%s", cp.proc.err, tail(log, 4096))}
		}
		out, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		if !strings.Contains("\n"+string(out), "\nready\n") {
			return errors.New("labkube is not ready")
		}
		return nil
	})
}

// config returns how to talk to the API server as one of its users. The
// connections start in the management network, so that this process's own
// network needs no route there.
func (cp *ControlPlane) config(user string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", cp.Kubeconfig(user))
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	config.Dial = (&Host{Namespace: cp.hub}).dial
	return config, nil
}

// Kubeconfig returns the file for one of the users admin, controller, speaker
// and proxy. Its server is to be reached from the nodes.
func (cp *ControlPlane) Kubeconfig(user string) string {
	return filepath.Join(cp.dir, user+".kubeconfig")
}

// Forward makes the API server reachable on an address of this process's own
// network, and writes a kubeconfig for it. It ends with ctx.
func (cp *ControlPlane) Forward(ctx context.Context) (kubeconfig string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, func() { ln.Close() })
	go forward(ln, func() (net.Conn, error) {
		return (&Host{Namespace: cp.hub}).dial(ctx, "tcp", apiServer+":6443")
	})
	config, err := clientcmd.LoadFromFile(cp.Kubeconfig("admin"))
	if err != nil {
		return "", err
	}
	for _, cluster := range config.Clusters {
		cluster.Server = "https://" + ln.Addr().String()
	}
	kubeconfig = filepath.Join(cp.run, "kubeconfig")
	return kubeconfig, clientcmd.WriteToFile(*config, kubeconfig)
}

// Run returns the folder for all files.
func (cp *ControlPlane) Run() string { return cp.run }

func (cp *ControlPlane) log(name string) string { return filepath.Join(cp.run, name+".log") }

// Close stops what was started and removes every file.
func (cp *ControlPlane) Close() error {
	var errs []error
	if cp.proc != nil {
		cp.proc.kill()
	}
	if cp.hub != nil {
		if link, err := cp.hub.links.LinkByName(guestLink); err == nil {
			back, _ := home()
			errs = append(errs, cp.hub.links.LinkSetNsFd(link, int(back)))
		}
		errs = append(errs, cp.hub.close())
	}
	return errors.Join(append(errs, unmountBelow(cp.run), os.RemoveAll(cp.run))...)
}

// unmountBelow undoes the mounts that are left below a folder.
func unmountBelow(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(mounts)) {
		if point := strings.Fields(line)[4]; strings.HasPrefix(point, dir+"/") {
			errs = append(errs, unix.Unmount(point, unix.MNT_DETACH))
		}
	}
	return errors.Join(errs...)
}
