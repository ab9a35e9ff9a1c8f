package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/internal/loop"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

const (
	// reportEvery is the least time between two writes of a SpeakerStatus, and
	// how long it takes after an error.
	reportEvery = time.Second
	// reportResync is how often it is compared although nothing has rung.
	reportResync = time.Minute
	// reportPatience bounds one write.
	reportPatience = 10 * time.Second
	// reportMost is how many addresses, conflicts and ranges that are told one may
	// name: an object of the API has its limit, and 10,000 are a megabyte.
	reportMost = 10000

	// peerUp is the state of a BFD session that is up.
	peerUp = "up"
	// established is the state of a BGP session that is up.
	established = "established"

	speakerStatuses = "speakerstatuses"
	reporter        = "herald-speaker" // field manager
)

// A Reporter keeps the SpeakerStatus of a node as it should be.
type Reporter struct {
	Clients Clients
	Node    string
	// Facts returns what is to be said now.
	Facts func() (snapshot.Report, error)
	// Changed makes it look at them.
	Changed loop.Bell
	Log     *slog.Logger

	written *v1alpha1.SpeakerReport // last; nil for none
	at      time.Time               // when
}

// Run writes what changes, at most once a second, until ctx ends.
func (r *Reporter) Run(ctx context.Context) error {
	failing := false
	for ctx.Err() == nil {
		err := r.report(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil && !failing:
			r.Log.Warn("the SpeakerStatus of this node cannot be written", "err", err)
		case err == nil && failing:
			r.Log.Info("the SpeakerStatus of this node is written again")
		}
		failing = err != nil
		loop.Pause(ctx, reportEvery)
		if failing {
			continue
		}
		select {
		case <-r.Changed:
		case <-time.After(reportResync):
		case <-ctx.Done():
		}
	}
	return nil
}

// report writes the facts if they are not what was written last.
func (r *Reporter) report(ctx context.Context) error {
	facts, err := r.Facts()
	if err != nil {
		return err
	}
	next, now := reportOf(facts), time.Now()
	if r.written != nil && !worthWriting(*r.written, next, now.Sub(r.at)) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reportPatience)
	defer cancel()
	err = r.apply(ctx, "status", map[string]any{"status": next})
	if apierrors.IsNotFound(err) {
		if err = r.create(ctx); err == nil {
			err = r.apply(ctx, "status", map[string]any{"status": next})
		}
	}
	if err != nil {
		r.written = nil
		return fmt.Errorf("writing SpeakerStatus %s: %w", r.Node, err)
	}
	r.written, r.at = &next, now
	return nil
}

// worthWriting is whether next has to be written over what was written some time
// ago. A router that is away is dialled every few seconds: through which states that
// goes can wait, and so can how often a session was lost that is back.
func worthWriting(was, next v1alpha1.SpeakerReport, ago time.Duration) bool {
	if ago < reportResync {
		was.Routers, next.Routers = steady(was.Routers), steady(next.Routers)
	}
	return !reflect.DeepEqual(was, next)
}

// steady returns sessions without what changes while nothing else does.
func steady(all []v1alpha1.SpeakerRouter) []v1alpha1.SpeakerRouter {
	all = slices.Clone(all)
	for i := range all {
		all[i].Since, all[i].Losses = metav1.Time{}, 0
		if all[i].State != established {
			all[i].State = ""
		}
	}
	return all
}

// create makes the object, owned by the Node so that it goes with it.
func (r *Reporter) create(ctx context.Context) error {
	n, err := r.Clients.Core.CoreV1().Nodes().Get(ctx, r.Node, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading Node %s: %w", r.Node, err)
	}
	return r.apply(ctx, "", map[string]any{"metadata": map[string]any{
		"name":            r.Node,
		"labels":          map[string]string{labelComponent: componentSpeaker, "app.kubernetes.io/name": "herald"},
		"ownerReferences": []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID}},
	}})
}

// apply makes the object have these fields, and none that it was given before
// and that are not among them (server-side apply).
func (r *Reporter) apply(ctx context.Context, subresource string, fields map[string]any) error {
	fields["apiVersion"], fields["kind"] = v1alpha1.GroupVersion.String(), "SpeakerStatus"
	body, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	patch := r.Clients.Herald.Patch(types.ApplyPatchType).Resource(speakerStatuses).Name(r.Node).
		Param("fieldManager", reporter).Param("force", "true")
	if subresource != "" {
		patch = patch.SubResource(subresource)
	}
	return patch.Body(body).Do(ctx).Error()
}

// reportOf converts a report for the API.
func reportOf(in snapshot.Report) v1alpha1.SpeakerReport {
	out := v1alpha1.SpeakerReport{
		DataPath: in.DataPath, Lacks: in.Lacks, Draining: in.Draining,
		Announced: int32(len(in.Answers)), Conflicted: int32(len(in.Conflicts)),
	}
	for _, l := range in.Links {
		link := v1alpha1.SpeakerLink{Name: l.Name, MAC: net.HardwareAddr(l.MAC[:]).String(), Unsteady: l.Unsteady}
		for _, p := range l.Prefixes {
			link.Addresses = append(link.Addresses, p.String())
		}
		out.Links = append(out.Links, link)
	}
	up := 0
	for _, p := range in.Peers {
		if p.Up {
			up++
		}
		out.Peers = append(out.Peers, v1alpha1.SpeakerPeer{
			Node: p.Node, Address: p.Addr.String(), State: p.State, Since: metav1.NewTime(p.Since.UTC().Truncate(time.Second)),
			Deaf: p.Deaf, Losses: int32(p.Losses), Error: p.Err,
		})
	}
	out.Reached = fmt.Sprintf("%d/%d", up, len(in.Peers))
	sessions := 0
	for _, b := range in.Routers {
		router := v1alpha1.SpeakerRouter{
			Peer: b.Peer, State: b.State, Since: metav1.NewTime(b.Since.UTC().Truncate(time.Second)), ASN: int64(b.ASN),
			Routes: int32(b.Sent), Losses: int32(b.Flaps), BFD: b.BFD, Error: b.Err,
		}
		if b.Addr.IsValid() {
			router.Address = b.Addr.String()
		}
		if b.Up {
			sessions++
		}
		out.Routers = append(out.Routers, router)
	}
	if len(in.Routers) > 0 {
		out.Established = fmt.Sprintf("%d/%d", sessions, len(in.Routers))
	}
	for _, r := range in.Told[:min(len(in.Told), reportMost)] {
		out.Told = append(out.Told, r.String())
	}
	for _, a := range in.Answers[:min(len(in.Answers), reportMost)] {
		out.Addresses = append(out.Addresses, v1alpha1.AnnouncedAddress{
			Address: a.Addr.String(), Interface: a.Link, Since: metav1.NewMicroTime(a.Since.UTC().Truncate(time.Microsecond)),
		})
	}
	for _, c := range in.Conflicts[:min(len(in.Conflicts), reportMost)] {
		out.Conflicts = append(out.Conflicts, v1alpha1.AddressConflict{
			Address: c.Addr.String(), Interface: c.Link, MAC: c.MAC, Node: c.Node, Answered: c.Answered,
			Since: metav1.NewTime(c.Since.UTC().Truncate(time.Second)),
		})
	}
	return out
}

// readReport converts what a speaker has written. What cannot be read is passed
// over: it is for people, and for what is said of Services.
func readReport(s *v1alpha1.SpeakerStatus) snapshot.Report {
	out := snapshot.Report{Draining: s.Status.Draining, Speaker: snapshot.Speaker{Node: s.Name, DataPath: s.Status.DataPath, Lacks: s.Status.Lacks}}
	for _, p := range s.Status.Peers {
		out.Peers = append(out.Peers, snapshot.PeerReport{Node: p.Node, State: p.State, Up: p.State == peerUp, Deaf: p.Deaf, Err: p.Error})
	}
	for _, b := range s.Status.Routers {
		router := snapshot.RouterReport{
			Peer: b.Peer, State: b.State, Up: b.State == established, Since: b.Since.Time, ASN: uint32(b.ASN), Flaps: int(b.Losses), Err: b.Error, Sent: int(b.Routes),
			BFD: b.BFD,
		}
		if addr, err := netip.ParseAddr(b.Address); err == nil {
			router.Addr = addr
		}
		out.Routers = append(out.Routers, router)
	}
	for _, text := range s.Status.Told {
		if r, err := ipam.ParseRange(text); err == nil {
			out.Told = append(out.Told, r)
		}
	}
	for _, a := range s.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil {
			out.Answers = append(out.Answers, snapshot.Answer{Addr: addr, Link: a.Interface, Since: a.Since.Time})
		}
	}
	for _, c := range s.Status.Conflicts {
		if addr, err := netip.ParseAddr(c.Address); err == nil {
			out.Conflicts = append(out.Conflicts, snapshot.Conflict{
				Addr: addr, Link: c.Interface, MAC: c.MAC, Node: c.Node, Answered: c.Answered, Since: c.Since.Time,
			})
		}
	}
	slices.SortFunc(out.Conflicts, func(a, b snapshot.Conflict) int { return a.Addr.Compare(b.Addr) })
	return out
}
