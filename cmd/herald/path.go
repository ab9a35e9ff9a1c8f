package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/memory"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/ipvs"
	"github.com/herald-lb/herald/speaker/steer/nft"
)

// A dataPath is the kernel that this node steers with; none on a node whose
// kernel can do neither.
type dataPath struct {
	kernel steer.Kernel
	lacks  []string // what was found missing when it was chosen
}

func (p dataPath) name() string {
	if p.kernel == nil {
		return ""
	}
	return p.kernel.Name()
}

// speaker is what the others have to know of the path.
func (p dataPath) speaker(node string) snapshot.Speaker {
	sp := snapshot.Speaker{Node: node, DataPath: p.name(), Lacks: p.lacks}
	if p.kernel != nil {
		sp.Tunnels = p.kernel.Self().Tunnels
		sp.Lacks = append(slices.Clone(p.lacks), p.kernel.Lacks()...)
	}
	return sp
}

func (p dataPath) close(log *slog.Logger) {
	if p.kernel == nil {
		return
	}
	if err := p.kernel.Close(); err != nil {
		log.Warn("closing the data path", "err", err)
	}
}

func stateDirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "state-dir", "/run/herald", "directory, on a file system that a restart outlives and a reboot empties, where Herald's network namespace is pinned")
}

func memoryDirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "memory-dir", "/var/lib/herald", "directory, on a file system that a reboot outlives, where what is known of the cluster is kept for a start without the API server; empty for nowhere")
}

// pathFlags say how a node steers.
type pathFlags struct {
	steer, stateDir string
	nodeIPs         []string
	tunnels         bool
}

func (f *pathFlags) flags(cmd *cobra.Command) {
	stateDirFlag(cmd, &f.stateDir)
	var ips []string
	if env := os.Getenv("NODE_IPS"); env != "" {
		ips = strings.Split(env, ",")
	}
	cmd.Flags().StringSliceVar(&f.nodeIPs, "node-ips", ips, "addresses of this node, one of each family, at which other nodes reach it (default $NODE_IPS)")
	cmd.Flags().BoolVar(&f.tunnels, "tunnels", true, "send packets for pods of other nodes by tunnel (IP in IP), so that they see the client's address; turn it off on every node where the network drops protocols 4 and 41")
}

// ends returns the addresses at which this node takes tunnels.
func (f *pathFlags) ends() ([]netip.Addr, error) {
	if !f.tunnels {
		return nil, nil
	}
	ends := make([]netip.Addr, 0, len(f.nodeIPs))
	for _, text := range f.nodeIPs {
		a, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("--node-ips %q: %w: write addresses separated by commas", text, err)
		}
		ends = append(ends, a.Unmap())
	}
	return ends, nil
}

// choosePath probes the kernel and says what it found. What an earlier run has
// left in the path that is not chosen is removed.
func choosePath(ctx context.Context, f pathFlags, log *slog.Logger) (dataPath, error) {
	ends, err := f.ends()
	if err != nil {
		return dataPath{}, err
	}
	noIPVS, noNFT := errors.New("not asked for"), errors.New("not asked for")
	switch f.steer {
	case "auto":
		noIPVS, noNFT = ipvs.Probe(), nft.Probe()
	case "ipvs":
		noIPVS = ipvs.Probe()
	case "nft":
		noNFT = nft.Probe()
	default:
		return dataPath{}, fmt.Errorf("--steer %q: use auto, ipvs or nft", f.steer)
	}
	ours := ipvs.New(ipvs.Options{StateDir: f.stateDir, Tunnels: ends})
	switch {
	case noIPVS == nil:
		// What nft has left, a table of the same name, ipvs replaces.
		return prepared(ctx, ours, log), nil
	case noNFT != nil:
		log.Error("this node cannot steer, and announces only what kube-proxy steers", "no-ipvs", noIPVS, "no-nft", noNFT)
		return dataPath{lacks: []string{"IPVS: " + noIPVS.Error(), "nftables: " + noNFT.Error()}}, nil
	}
	log.Warn("steering with nftables", "no-ipvs", noIPVS)
	if err := errors.Join(ours.Remove(ctx), ours.Close()); err != nil {
		log.Warn("removing what IPVS has left", "err", err)
	}
	return dataPath{nft.New(nft.Options{}), []string{"IPVS: " + noIPVS.Error()}}, nil
}

// prepared prepares k before anybody hears of this speaker: what it can do has
// to be known by then, or the others would take it for less. If that fails the
// first pass tries again.
func prepared(ctx context.Context, k *ipvs.Kernel, log *slog.Logger) dataPath {
	if err := k.Prepare(ctx); err != nil {
		log.Warn("preparing IPVS", "err", err)
	}
	log.Info("steering with IPVS, in network namespaces of Herald's own", "tunnels", k.Self().Tunnels)
	for _, lack := range k.Lacks() {
		log.Warn("steering without", "lack", lack)
	}
	return dataPath{kernel: k}
}

func prepareCommand() *cobra.Command {
	var f pathFlags
	cmd := &cobra.Command{
		Use:   "prepare-node",
		Short: "Load IPVS and pin Herald's network namespaces on this node, so that the speaker needs no right to mount or to load modules",
		Long: `Loads IPVS and pins Herald's network namespaces on this node, so that the speaker
needs no right to mount or to load modules. Give it the same --node-ips and
--tunnels as the speaker has: what it sets up is what the speaker will find.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ends, err := f.ends()
			if err != nil {
				return err
			}
			if err := ipvs.Probe(); err != nil {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing to prepare:", err)
				return nil
			}
			k := ipvs.New(ipvs.Options{StateDir: f.stateDir, Tunnels: ends})
			return errors.Join(k.Prepare(cmd.Context()), k.Close())
		},
	}
	f.flags(cmd)
	return cmd
}

func uninstallCommand() *cobra.Command {
	var stateDir, memoryDir string
	cmd := &cobra.Command{
		Use:   "uninstall-node",
		Short: "Remove everything that Herald has set up in this node's kernel, and what it keeps there",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return errors.Join(
				ipvs.New(ipvs.Options{StateDir: stateDir}).Remove(ctx),
				nft.New(nft.Options{}).Remove(ctx),
				memory.Remove(memoryDir),
			)
		},
	}
	stateDirFlag(cmd, &stateDir)
	memoryDirFlag(cmd, &memoryDir)
	return cmd
}
