package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/ipvs"
	"github.com/herald-lb/herald/speaker/steer/nft"
)

// A dataPath is the kernel that this node steers with; none on a node whose
// kernel can do neither.
type dataPath struct{ kernel steer.Kernel }

func (p dataPath) name() string {
	if p.kernel == nil {
		return ""
	}
	return p.kernel.Name()
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

// choosePath probes the kernel and says what it found. What an earlier run has
// left in the path that is not chosen is removed.
func choosePath(ctx context.Context, mode, stateDir string, log *slog.Logger) (dataPath, error) {
	noIPVS, noNFT := errors.New("not asked for"), errors.New("not asked for")
	switch mode {
	case "auto":
		noIPVS, noNFT = ipvs.Probe(), nft.Probe()
	case "ipvs":
		noIPVS = ipvs.Probe()
	case "nft":
		noNFT = nft.Probe()
	default:
		return dataPath{}, fmt.Errorf("--steer %q: use auto, ipvs or nft", mode)
	}
	ours := ipvs.New(ipvs.Options{StateDir: stateDir})
	switch {
	case noIPVS == nil:
		// What nft has left, a table of the same name, ipvs replaces.
		log.Info("steering with IPVS, in a network namespace of Herald's own")
		return dataPath{ours}, nil
	case noNFT != nil:
		log.Error("this node cannot steer, and announces only what kube-proxy steers", "no-ipvs", noIPVS, "no-nft", noNFT)
		return dataPath{}, nil
	}
	log.Warn("steering with nftables", "no-ipvs", noIPVS)
	if err := errors.Join(ours.Remove(ctx), ours.Close()); err != nil {
		log.Warn("removing what IPVS has left", "err", err)
	}
	return dataPath{nft.New(nft.Options{})}, nil
}

func prepareCommand() *cobra.Command {
	var stateDir string
	cmd := &cobra.Command{
		Use:   "prepare-node",
		Short: "Load IPVS and pin Herald's network namespace on this node, so that the speaker needs no right to mount or to load modules",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := ipvs.Probe(); err != nil {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing to prepare:", err)
				return nil
			}
			k := ipvs.New(ipvs.Options{StateDir: stateDir})
			return errors.Join(k.Prepare(cmd.Context()), k.Close())
		},
	}
	stateDirFlag(cmd, &stateDir)
	return cmd
}

func uninstallCommand() *cobra.Command {
	var stateDir string
	cmd := &cobra.Command{
		Use:   "uninstall-node",
		Short: "Remove everything that Herald has set up in this node's kernel",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return errors.Join(
				ipvs.New(ipvs.Options{StateDir: stateDir}).Remove(ctx),
				nft.New(nft.Options{}).Remove(ctx),
			)
		},
	}
	stateDirFlag(cmd, &stateDir)
	return cmd
}
