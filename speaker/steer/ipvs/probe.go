package ipvs

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// Probe says why this kernel cannot steer with IPVS, or nil if it can. It
// tries to load the module first.
//
// It asks for the generic netlink family, because moby/ipvs cannot be asked:
// without IPVS all its calls succeed, having talked to nobody.
func Probe() error {
	if _, err := netlink.GenlFamilyGet("IPVS"); err == nil {
		return nil
	}
	loaded := modprobe("ip_vs")
	_, err := netlink.GenlFamilyGet("IPVS")
	if err == nil {
		return nil
	}
	if loaded != nil {
		err = loaded // says more
	}
	return fmt.Errorf("this kernel has no IPVS (%w); load the modules ip_vs and ip_vs_rr on the node, "+
		"or run a kernel built with CONFIG_IP_VS", err)
}

// modprobe loads modules, if there is anybody who can.
func modprobe(modules ...string) error {
	path, err := exec.LookPath("modprobe")
	if err != nil {
		return fmt.Errorf("loading %s: %w", strings.Join(modules, ", "), err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, append([]string{"-a"}, modules...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("loading %s: %w: %s", strings.Join(modules, ", "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
