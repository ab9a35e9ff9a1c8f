package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/herald-lb/herald/internal/kube"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker"
	"github.com/herald-lb/herald/speaker/steer"
)

// traceFlags are the flags of herald trace.
type traceFlags struct {
	person
	classes        kube.Classes
	namespace, via string
	proxy          bool
}

func traceCommand() *cobra.Command {
	var f traceFlags
	cmd := &cobra.Command{
		Use:   "trace CLIENT:PORT ADDRESS:PORT[/PROTOCOL]",
		Short: "Say which endpoint a connection would get, and by which way",
		Long: `Says which node takes in a new connection, what each server on its way does with
it, and which endpoint it ends at. The protocol is tcp unless it is udp or sctp.

The answer is made on this side from what the API server has, by the very plans
that the speakers make and by a copy of the kernel's scheduler mh. Where another
scheduler chooses, it says among which endpoints, and why it cannot say which one. A
connection that exists already stays where it is. Give the same --class,
--default-class and --service-proxy as the speakers have.`,
		Example: "  herald trace 198.51.100.7:40000 192.168.1.240:80",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			flow, err := parseFlow(args[0], args[1])
			if err != nil {
				return err
			}
			lines, err := f.trace(cmd.Context(), flow)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.Join(lines, "\n"))
			return err
		},
	}
	f.person.flags(cmd)
	classFlags(cmd, &f.classes)
	cmd.Flags().StringVar(&f.namespace, "namespace", "herald-system", "namespace that Herald keeps its Leases in")
	cmd.Flags().BoolVar(&f.proxy, "service-proxy", false, "the speakers stand in for kube-proxy, so that ClusterIPs, external IPs and node ports are Herald's, too")
	cmd.Flags().StringVar(&f.via, "via", "", "node that the connection arrives at (default that of the client, else the one that announces the address or tells routers of it)")
	return cmd
}

func (f *traceFlags) trace(ctx context.Context, flow steer.Flow) ([]string, error) {
	clients, err := f.clients()
	if err != nil {
		return nil, err
	}
	r, err := kube.ReadTraffic(ctx, clients, f.namespace)
	if err != nil {
		return nil, err
	}
	r.ServiceProxy = f.proxy
	s, err := r.Snapshot(f.classes, time.Now())
	if err != nil {
		return nil, err
	}
	return speaker.Trace(s, f.via, flow)
}

// parseFlow reads what was asked for.
func parseFlow(client, virtual string) (steer.Flow, error) {
	virtual, name, named := strings.Cut(virtual, "/")
	flow := steer.Flow{Proto: snapshot.TCP}
	if named {
		flow.Proto = 0
		for _, p := range []snapshot.Proto{snapshot.TCP, snapshot.UDP, snapshot.SCTP} {
			if strings.EqualFold(p.String(), name) {
				flow.Proto = p
			}
		}
	}
	if flow.Proto == 0 {
		return flow, fmt.Errorf("protocol %q: use tcp, udp or sctp", name)
	}
	for _, end := range []struct {
		text, what, example string
		into                *netip.AddrPort
	}{
		{client, "client", "198.51.100.7:40000 or [2001:db8::7]:40000", &flow.Client},
		{virtual, "address", "192.0.2.1:80 or [2001:db8::1]:80", &flow.Virtual},
	} {
		a, err := netip.ParseAddrPort(end.text)
		if err != nil || a.Addr().Zone() != "" {
			return flow, fmt.Errorf("%s %q: want an address and a port, as in %s", end.what, end.text, end.example)
		}
		*end.into = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	if flow.Client.Addr().Is4() != flow.Virtual.Addr().Is4() {
		return flow, fmt.Errorf("client %s and address %s are of different families", flow.Client.Addr(), flow.Virtual.Addr())
	}
	return flow, nil
}
